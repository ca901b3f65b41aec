package app

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/internal/telemetry"
)

var update = flag.Bool("update", false, "write docs/metrics.md instead of checking it")

// reference is the list of all families; what stands before the mark is written by hand.
const (
	reference = "../../docs/metrics.md"
	mark      = "<!-- From here on written by: go test ./internal/app -run TestMetricsReference -update -->\n"
)

// comeLater are the gauges of partitions, which are there while a worker holds the partition.
var comeLater = []string{"tradestore_apply_lag_records", "tradestore_apply_lag_seconds", "tradestore_apply_position"}

// switchedOff are histograms that the Kafka library describes and does not keep.
var switchedOff = regexp.MustCompile(`^tradestore_kafka_(read|write)_(time|wait)_seconds$`)

// misnamed are families of libraries whose names break the rules and can't be changed.
var misnamed = map[string]string{
	"tradestore_kafka_buffered_fetch_records_total":   `non-counter metrics should not have "_total" suffix`,
	"tradestore_kafka_buffered_produce_records_total": `non-counter metrics should not have "_total" suffix`,
}

// family is one metric family of one role or of both.
type family struct {
	name, kind, help string
	labels           map[string][]string // values by label: those that are known beforehand
	roles            []string
}

// families starts a role in front of stores that don't answer and returns what it shows by then: all its families,
// since a role registers them before it works.
func families(t *testing.T, name string, run func(ctx context.Context, dead string, env Env) error) map[string]*family {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	dead := ln.Addr().String()
	require.NoError(t, ln.Close())
	reg := telemetry.NewRegistry()
	r := start(t, func(ctx context.Context, env Env) error {
		env.Registry = reg
		return run(ctx, dead, env)
	})
	r.await(t, "metrics are served", r.answers(t, "/metrics", http.StatusOK))
	gathered, err := reg.Gather()
	require.NoError(t, err)
	checkNames(t, gathered)
	checkStart(t, gathered)
	found := described(reg, name)
	for _, g := range gathered {
		f := found[g.GetName()]
		require.NotNil(t, f, g.GetName())
		f.kind = strings.ToLower(g.GetType().String())
		for _, m := range g.GetMetric() {
			for _, l := range m.GetLabel() {
				numbers := l.GetName() == "partition" // as many as --partitions
				if !numbers && !slices.Contains(f.labels[l.GetName()], l.GetValue()) {
					f.labels[l.GetName()] = append(f.labels[l.GetName()], l.GetValue())
				}
			}
		}
	}
	var absent []string
	for _, f := range found {
		if f.kind == "" && switchedOff.MatchString(f.name) {
			delete(found, f.name)
		} else if f.kind == "" {
			absent = append(absent, f.name)
			f.kind = "gauge"
		}
	}
	if name == "worker" {
		assert.ElementsMatch(t, comeLater, absent,
			"every other family starts with a series, so that a rate sees its first event")
	} else {
		assert.Empty(t, absent, "every family starts with a series, so that a rate sees its first event")
	}
	return found
}

var (
	descText = regexp.MustCompile(`^Desc\{fqName: "(.*?)", help: "(.*?)", unit: ".*", ` +
		`constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)
	labelText = regexp.MustCompile(`([a-z_]+)(?:="[^"]*")?`)
)

// described returns the families that the collectors of a registry have announced.
func described(reg *prometheus.Registry, role string) map[string]*family {
	descs := make(chan *prometheus.Desc)
	go func() {
		reg.Describe(descs)
		close(descs)
	}()
	found := map[string]*family{}
	for d := range descs {
		m := descText.FindStringSubmatch(d.String())
		help := strings.ReplaceAll(m[2], `\"`, `"`)
		f := &family{name: m[1], help: help, labels: map[string][]string{}, roles: []string{role}}
		for _, label := range labelText.FindAllStringSubmatch(m[4], -1) {
			f.labels[label[1]] = nil
		}
		found[f.name] = f
	}
	return found
}

func checkNames(t *testing.T, gathered []*dto.MetricFamily) {
	t.Helper()
	problems, err := promlint.NewWithMetricFamilies(gathered).Lint()
	require.NoError(t, err)
	for _, p := range problems {
		assert.Equal(t, misnamed[p.Metric], p.Text, p.Metric)
	}
}

// checkStart says that nothing has been counted before anything happened, and that our histograms have both forms.
func checkStart(t *testing.T, gathered []*dto.MetricFamily) {
	t.Helper()
	ofTrades := regexp.MustCompile(`^tradestore_(accept|apply|projection|orphan)_`)
	for _, f := range gathered {
		ours := strings.HasPrefix(f.GetName(), "tradestore_") && !strings.HasPrefix(f.GetName(), "tradestore_kafka_")
		for _, m := range f.GetMetric() {
			if ofTrades.MatchString(f.GetName()) {
				assert.Zero(t, m.GetCounter().GetValue()+float64(m.GetHistogram().GetSampleCount()), f.GetName())
			}
			if ours && f.GetType() == dto.MetricType_HISTOGRAM {
				schema := m.GetHistogram().Schema //nolint:protogetter // absent and 0 differ
				assert.NotNil(t, schema, "%s has native buckets", f.GetName())
				assert.NotEmpty(t, m.GetHistogram().GetBucket(), "%s has classic buckets", f.GetName())
			}
		}
	}
}

// All families of both roles are in docs/metrics.md, as they are in the code.
func TestMetricsReference(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	servers := families(t, "server", func(ctx context.Context, dead string, env Env) error {
		cfg := *defaults[ServerConfig](t)
		cfg.Database.URL, cfg.Kafka.Brokers = "postgres://nobody@"+dead+"/none", []string{dead}
		cfg.RequestStore.Kind, cfg.RequestStore.Endpoint = onDynamoDB, "http://"+dead
		return RunServer(ctx, cfg, env)
	})
	all := families(t, "worker", func(ctx context.Context, dead string, env Env) error {
		cfg := *defaults[WorkerConfig](t)
		cfg.Database.URL, cfg.Kafka.Brokers = "postgres://nobody@"+dead+"/none", []string{dead}
		cfg.RequestStore.Kind, cfg.RequestStore.Endpoint = onDynamoDB, "http://"+dead
		return RunWorker(ctx, cfg, env)
	})
	for name, f := range servers {
		other := all[name]
		if other == nil {
			all[name] = f
			continue
		}
		require.Equal(t, f.kind+f.help, other.kind+other.help, "%s means the same in both roles", name)
		other.roles = []string{"server", "worker"}
		for label, values := range f.labels {
			other.labels[label] = append(other.labels[label], values...)
		}
	}
	if runtime.GOOS != "linux" {
		t.Skip("the families about the process are those of Linux")
	}
	text, err := os.ReadFile(reference)
	require.NoError(t, err)
	intro, table, ok := strings.Cut(string(text), mark)
	require.True(t, ok, "%s has no line %s", reference, mark)
	if *update {
		require.NoError(t, os.WriteFile(reference, []byte(intro+mark+write(all)), 0o600))
		return
	}
	require.Equal(t, write(all), table,
		"%s is not what the code says; its second part begins with the command that writes it", reference)
}

// chapters of the list, by how names begin.
var chapters = []struct{ title, prefix string }{
	{"HTTP", "tradestore_http_"},
	{"Accepting trades", "tradestore_accept_"},
	{"Applying the log", "tradestore_apply_"},
	{"Outcomes that clients see", "tradestore_projection_"},
	{"Calls that wait for outcomes", "tradestore_wait_"},
	{"The lag of the log", "tradestore_lag_"},
	{"Streams of events", "tradestore_stream_"},
	{"Requests that stay PENDING", "tradestore_orphan_"},
	{"Kafka clients", "tradestore_kafka_"},
	{"PostgreSQL", "tradestore_postgres_"},
	{"DynamoDB", "tradestore_dynamodb_"},
	{"The process and what it relies on", "tradestore_"},
	{"Go runtime, process and scrapes", ""},
}

func write(all map[string]*family) string {
	var out strings.Builder
	written := map[string]bool{}
	for _, chapter := range chapters {
		fmt.Fprintf(&out, "\n## %s\n\n", chapter.title)
		out.WriteString("| Family | Type | Unit | Labels | Role | Meaning |\n|---|---|---|---|---|---|\n")
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if f := all[name]; strings.HasPrefix(name, chapter.prefix) && !written[name] {
				written[name] = true
				fmt.Fprintf(&out, "| `%s` | %s | %s | %s | %s | %s |\n",
					name, f.kind, unit(name), labels(f), strings.Join(f.roles, ", "), f.help)
			}
		}
	}
	return out.String()
}

// unit reads the unit off the name, where the rules put it.
func unit(name string) string {
	name = strings.TrimSuffix(name, "_total")
	switch {
	case strings.HasSuffix(name, "_timestamp_seconds"), strings.HasSuffix(name, "_time_seconds"):
		return "seconds since 1970"
	case strings.HasSuffix(name, "_seconds"):
		return "seconds"
	case strings.HasSuffix(name, "_bytes"):
		return "bytes"
	}
	return ""
}

// open are labels whose values differ from build to build, or of which a test sees a few only.
var open = []string{"version", "commit", "go", "client"}

// labels names the labels, and their values where these are few and known.
func labels(f *family) string {
	var texts []string
	for _, label := range slices.Sorted(maps.Keys(f.labels)) {
		values := slices.DeleteFunc(slices.Clone(f.labels[label]), func(v string) bool { return v == "" })
		slices.SortFunc(values, cmp.Compare[string])
		values = slices.Compact(values)
		text := "`" + label + "`"
		if len(values) > 0 && len(values) <= 12 && !slices.Contains(open, label) {
			text += ": " + strings.Join(values, ", ")
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, "; ")
}
