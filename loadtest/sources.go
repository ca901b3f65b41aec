package loadtest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime/metrics"
	"strings"
	"syscall"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Groups of series: one chart each.
const (
	groupCPU    = "CPU"
	groupMemory = "memory"
	groupLag    = "lag"
	groupQueue  = "queue"
	groupStages = "stages"
)

// Series that Judge and the capacity search use.
const (
	generatorCPU = "generator CPU"
	machineCPU   = "machine CPU"
	inFlight     = "generator in flight"
	lagSeries    = "lag"
	workerLag    = "worker lag"
)

// generatorSource measures this process and how many operations wait for an answer.
func generatorSource(waiting func() float64) Source {
	return Source{Name: "generator", Read: func(context.Context) ([]Reading, error) {
		readings := []Reading{
			{Name: inFlight, Group: groupQueue, Unit: "requests", Value: waiting()},
			{Name: "generator memory", Group: groupMemory, Unit: "bytes", Value: ownMemory()},
		}
		var used syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
			return readings, fmt.Errorf("cannot read the CPU time of this process: %w", err)
		}
		busy := time.Duration(used.Utime.Nano() + used.Stime.Nano()).Seconds()
		return append(readings, Reading{Name: generatorCPU, Group: groupCPU, Unit: "cores", Value: busy, Total: true}), nil
	}}
}

// ownMemory is the memory of the Go runtime, in bytes.
func ownMemory() float64 {
	held := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(held)
	return float64(held[0].Value.Uint64() - held[1].Value.Uint64())
}

// metricsSource reads the /metrics of a role; name is part of the names of its series. A process with both roles has
// two such addresses; aboutProcess says whether this one reports the process.
func metricsSource(base *url.URL, name string, aboutProcess bool) Source {
	client := &http.Client{Transport: &http.Transport{MaxIdleConns: 1}}
	means := map[string]mean{}
	return Source{Name: "metrics of " + name, Read: func(ctx context.Context) ([]Reading, error) {
		families, err := scrape(ctx, client, base)
		if err != nil {
			return nil, err
		}
		readings := roleReadings(families, means)
		if aboutProcess {
			readings = append(readings, processReadings(families, name)...)
		}
		return readings, nil
	}}
}

const longestScrape = 16 << 20 // bytes

// scrape reads the metrics of a role.
func scrape(ctx context.Context, client *http.Client, base *url.URL) (map[string]*dto.MetricFamily, error) {
	at := base.JoinPath("/metrics").String()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("cannot ask %s: %w", at, err)
	}
	req.Header.Set("Accept", "text/plain; version=0.0.4")
	answer, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("cannot read the metrics: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("cannot read the metrics: %s answers %s", at, answer.Status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(io.LimitReader(answer.Body, longestScrape))
	if err != nil {
		return nil, fmt.Errorf("cannot read the metrics of %s: %w", at, err)
	}
	return families, nil
}

func processReadings(families map[string]*dto.MetricFamily, name string) []Reading {
	var readings []Reading
	if v, ok := sum(families["process_cpu_seconds_total"]); ok {
		readings = append(readings, Reading{Name: name + " CPU", Group: groupCPU, Unit: "cores", Value: v, Total: true})
	}
	if v, ok := sum(families["process_resident_memory_bytes"]); ok {
		readings = append(readings, Reading{Name: name + " memory", Group: groupMemory, Unit: "bytes", Value: v})
	}
	return readings
}

// measures are the families of both roles with a chart. Each role has some of them.
var measures = []struct {
	family string
	Reading
}{
	{"tradestore_accept_queue_items", Reading{Name: "server queue", Group: groupQueue, Unit: "items"}},
	{"tradestore_accept_in_flight", Reading{Name: "server in flight", Group: groupQueue, Unit: "requests"}},
	{"tradestore_accept_shed_total", Reading{Name: "server shed", Group: groupQueue, Unit: "requests", Total: true}},
	{"tradestore_apply_lag_records", Reading{Name: workerLag, Group: groupLag, Unit: "records"}},
}

// durations are histograms, shown as the mean of the last second. Those with a label have one series per value.
var durations = []struct{ family, label, value, name string }{
	{"tradestore_accept_queue_wait_seconds", "", "", "queue wait"},
	{"tradestore_accept_stage_duration_seconds", "stage", "lookup", "version look-up"},
	{"tradestore_accept_stage_duration_seconds", "stage", "open", "request store"},
	{"tradestore_accept_stage_duration_seconds", "stage", "produce", "Kafka produce"},
	{"tradestore_apply_duration_seconds", "result", "ok", "apply transaction"},
}

// mean is the last state of a histogram.
type mean struct {
	sum   float64
	count uint64
}

func roleReadings(families map[string]*dto.MetricFamily, means map[string]mean) []Reading {
	var readings []Reading
	for _, m := range measures {
		if v, ok := sum(families[m.family]); ok {
			m.Value = v
			readings = append(readings, m.Reading)
		}
	}
	for _, d := range durations {
		now, ok := histogram(families[d.family], d.label, d.value)
		if !ok {
			continue
		}
		before, known := means[d.name]
		means[d.name] = now
		if known && now.count > before.count {
			readings = append(readings, Reading{
				Name: d.name, Group: groupStages, Unit: "seconds", Value: (now.sum - before.sum) / float64(now.count-before.count),
			})
		}
	}
	return readings
}

// sum returns the sum of the series of a family, and false if there are none.
func sum(family *dto.MetricFamily) (float64, bool) {
	total := 0.0
	for _, m := range family.GetMetric() {
		total += m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetUntyped().GetValue()
	}
	return total, len(family.GetMetric()) > 0
}

func histogram(family *dto.MetricFamily, label, value string) (mean, bool) {
	for _, m := range family.GetMetric() {
		if label == "" || has(m, label, value) {
			return mean{m.GetHistogram().GetSampleSum(), m.GetHistogram().GetSampleCount()}, true
		}
	}
	return mean{}, false
}

func has(m *dto.Metric, label, value string) bool {
	for _, pair := range m.GetLabel() {
		if pair.GetName() == label {
			return pair.GetValue() == value
		}
	}
	return false
}

// processIdentity identifies the process of a role by its metrics.
type processIdentity struct {
	build     string  // version and commit
	started   float64 // seconds since 1970, to the kernel's tick
	allocated float64 // bytes since then: a counter that no two processes share
}

// identify reads the identity of the process of a role.
func identify(ctx context.Context, base *url.URL) (processIdentity, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	families, err := scrape(ctx, http.DefaultClient, base)
	if err != nil {
		return processIdentity{}, err
	}
	var id processIdentity
	id.started, _ = sum(families["process_start_time_seconds"])
	id.allocated, _ = sum(families["go_memstats_alloc_bytes_total"])
	for _, m := range families["tradestore_build_info"].GetMetric() {
		parts := map[string]string{}
		for _, pair := range m.GetLabel() {
			parts[pair.GetName()] = pair.GetValue()
		}
		id.build = strings.TrimSpace(parts["version"] + " " + parts["commit"])
	}
	return id, nil
}

// oneProcess says whether two roles are one process, as in `tradestore dev`: then the allocation counter read at one
// role is between two values read at the other.
func oneProcess(ctx context.Context, server, worker *url.URL) bool {
	var identities [3]processIdentity
	for i, base := range []*url.URL{server, worker, server} {
		var err error
		if identities[i], err = identify(ctx, base); err != nil {
			return false
		}
	}
	first, between, last := identities[0], identities[1], identities[2]
	return first.started == between.started && first.allocated > 0 && first.allocated <= between.allocated &&
		between.allocated <= last.allocated
}
