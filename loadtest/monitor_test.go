package loadtest

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A source that hangs costs no other its samples, totals become rates, and a total that shrank starts anew.
func TestMonitor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, totals := 0, []float64{10, 12, 16, 1, 2}
		steady := Source{Name: "steady", Read: func(context.Context) ([]Reading, error) {
			calls++
			return []Reading{
				{Name: "level", Group: "b", Unit: "items", Value: float64(calls)},
				{Name: "work", Group: "a", Unit: "cores", Value: totals[calls-1], Total: true},
			}, nil
		}}
		hangs := Source{Name: "hangs", Read: func(ctx context.Context) ([]Reading, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		m := NewMonitor(steady, hangs)
		_, known := m.Latest("level")
		require.False(t, known)
		m.Start(t.Context(), time.Now())
		time.Sleep(4*time.Second + time.Second/2)
		synctest.Wait()
		level, known := m.Latest("level")
		require.True(t, known)
		require.EqualValues(t, 5, level)
		require.Len(t, m.Between(1, 3), 2)
		require.Equal(t, []Sample{{1, 2}, {2, 3}}, seriesNamed(m.Between(1, 3), "level").Points)

		all := m.Stop()
		require.Equal(t, []Series{
			{Name: "work", Group: "a", Unit: "cores", Points: []Sample{{1, 2}, {2, 4}, {4, 1}}},
			{Name: "level", Group: "b", Unit: "items", Points: []Sample{{0, 1}, {1, 2}, {2, 3}, {3, 4}, {4, 5}}},
		}, all)
		require.Len(t, m.Failures(), 1)
		require.Contains(t, m.Failures()[0], "hangs: could not be read 4 times, at last: context deadline exceeded")
	})
}

// What a role of ours publishes is found under the names that it has.
func TestMetricsSource(t *testing.T) {
	reg := prometheus.NewRegistry()
	gauge := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "tradestore_apply_lag_records"}, []string{"partition"})
	stages := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "tradestore_accept_stage_duration_seconds"},
		[]string{"stage"})
	cpu := prometheus.NewCounter(prometheus.CounterOpts{Name: "process_cpu_seconds_total"})
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "tradestore_build_info",
		ConstLabels: prometheus.Labels{"version": "v1", "commit": "abc"}})
	started := prometheus.NewGauge(prometheus.GaugeOpts{Name: "process_start_time_seconds"})
	reg.MustRegister(gauge, stages, cpu, build, started)
	started.Set(17)
	gauge.WithLabelValues("0").Set(3)
	gauge.WithLabelValues("1").Set(4)
	stages.WithLabelValues("open").Observe(100)
	down := false
	role := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		require.Equal(t, "/metrics", r.URL.Path)
		promhttp.HandlerFor(reg, promhttp.HandlerOpts{EnableOpenMetrics: true}).ServeHTTP(w, r)
	}))
	defer role.Close()
	base, err := url.Parse(role.URL)
	require.NoError(t, err)

	source := metricsSource(base, "worker", true)
	first, err := source.Read(t.Context())
	require.NoError(t, err)
	require.Contains(t, first, Reading{Name: "worker lag", Group: groupLag, Unit: "records", Value: 7})
	require.Contains(t, first, Reading{Name: "worker CPU", Group: groupCPU, Unit: "cores", Total: true})
	for _, r := range first {
		require.NotEqual(t, "request store", r.Name, "nothing is known of the last second yet")
	}
	stages.WithLabelValues("open").Observe(1)
	stages.WithLabelValues("open").Observe(3)
	stages.WithLabelValues("produce").Observe(9)
	second, err := source.Read(t.Context())
	require.NoError(t, err)
	require.Contains(t, second, Reading{Name: "request store", Group: groupStages, Unit: "seconds", Value: 2})

	w, err := identify(t.Context(), base)
	require.NoError(t, err)
	require.Equal(t, processIdentity{build: "v1 abc", started: 17}, w)
	require.False(t, oneProcess(t.Context(), base, base), "nothing proves it")
	down = true
	_, err = source.Read(t.Context())
	require.ErrorContains(t, err, "503")
}

// Two roles of one process are told from two processes that were started in the same moment.
func TestOneProcess(t *testing.T) {
	role := func(allocated func() float64) *url.URL {
		reg := prometheus.NewRegistry()
		started := prometheus.NewGauge(prometheus.GaugeOpts{Name: "process_start_time_seconds"})
		started.Set(17)
		reg.MustRegister(started, prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "go_memstats_alloc_bytes_total"},
			allocated))
		srv := httptest.NewServer(promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
		t.Cleanup(srv.Close)
		base, err := url.Parse(srv.URL)
		require.NoError(t, err)
		return base
	}
	mine, other := 1e6, 2e6
	grow := func(total *float64) func() float64 { return func() float64 { *total += 1e3; return *total } }
	server, worker, elsewhere := role(grow(&mine)), role(grow(&mine)), role(grow(&other))
	require.True(t, oneProcess(t.Context(), server, worker))
	require.False(t, oneProcess(t.Context(), server, elsewhere))
	require.False(t, oneProcess(t.Context(), elsewhere, server))
}

func TestGeneratorSource(t *testing.T) {
	readings, err := generatorSource(func() float64 { return 5 }).Read(t.Context())
	require.NoError(t, err)
	require.Len(t, readings, 3)
	for _, r := range readings {
		require.Positive(t, r.Value, r.Name)
	}
}

func TestLocalPorts(t *testing.T) {
	f := func(address string, want ...uint64) {
		t.Helper()
		assert.Equal(t, want, localPorts([]string{address}))
	}
	f("127.0.0.1:5432", 5432)
	f("localhost:9092", 9092)
	f("[::1]:8000", 8000)
	f("10.255.255.254:8000")
	f("kafka-1:9092")
	f("127.0.0.1")
	f("127.0.0.1:many")
}

func TestPlainProgressIsQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		p := NewProgress(&out, false)
		p.Say("begins with %d", 1)
		end := p.Phase(func() string { return "load" })
		time.Sleep(25*time.Second + time.Second/2)
		end()
		end = p.Phase(func() string { return "drain" })
		time.Sleep(2*time.Second + time.Second/2)
		end()
		require.Equal(t, "begins with 1\nload\nload\nload\n", out.String())
	})
}

func TestLiveProgressIsOneLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		p := NewProgress(&out, true)
		end := p.Phase(func() string { return "load" })
		time.Sleep(time.Second)
		p.Say("noted")
		time.Sleep(time.Second)
		end()
		end()
		require.GreaterOrEqual(t, strings.Count(out.String(), "load"), 3)
		require.Equal(t, 1, strings.Count(out.String(), "\n"))
		require.True(t, strings.HasSuffix(out.String(), "\r\x1b[2K"), "cleared at the end")
	})
}

func TestSourcesThatFail(t *testing.T) {
	l, err := openLag(t.Context(), []string{"127.0.0.1:1"}, "trades", "workers",
		"postgres://127.0.0.1:1/x?connect_timeout=1")
	require.NoError(t, err, "what is down shows when it is read")
	defer l.close()
	_, err = l.source().Read(t.Context())
	require.ErrorContains(t, err, "cannot read the positions")
	_, err = openLag(t.Context(), []string{"127.0.0.1:1"}, "trades", "workers", "postgres://%%")
	require.ErrorContains(t, err, "--database-url")
	require.False(t, errors.Is(err, context.Canceled))
}
