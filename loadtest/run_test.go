package loadtest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// roomyStore is a store in memory with the probes of a server, and room for so many trades per second; beyond that it
// sheds.
type roomyStore struct {
	*tinyStore
	base    string
	metrics http.Handler
	room    float64 // 0: any number
	before  func()  // each POST

	mu    sync.Mutex // protects what follows
	left  float64
	since time.Time
}

func newRoomyStore(t *testing.T, room float64) *roomyStore {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "tradestore_apply_lag_records"}),
		prometheus.NewGauge(prometheus.GaugeOpts{Name: "tradestore_build_info",
			ConstLabels: prometheus.Labels{"version": "v9", "commit": "abc"}}))
	s := &roomyStore{tinyStore: newStore(t), metrics: promhttp.HandlerFor(reg, promhttp.HandlerOpts{}), room: room,
		since: time.Now()}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	s.base = srv.URL
	return s
}

func (s *roomyStore) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/readyz":
	case r.URL.Path == "/metrics":
		s.metrics.ServeHTTP(out, r)
	case r.Method == http.MethodPost && !s.admit():
		out.Header().Set("Retry-After", "1")
		reply(out, http.StatusServiceUnavailable, map[string]any{"code": "QUEUE_FULL"})
	default:
		s.tinyStore.ServeHTTP(out, r)
	}
}

// admit takes a token of a bucket that holds those of a fifth of a second.
func (s *roomyStore) admit() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.before != nil {
		s.before()
	}
	now := time.Now()
	s.left = min(s.left+now.Sub(s.since).Seconds()*s.room, s.room/5)
	s.since = now
	if s.room > 0 && s.left < 1 {
		return false
	}
	s.left--
	return true
}

// patient are settings under which only promises can be broken, on a machine however busy.
func patient(target string) Config {
	return Config{
		Target: target, Topic: "trades-inbound", Rate: 100, Duration: time.Second, Warmup: 200 * time.Millisecond,
		Mix:       "new=8,higher=1,past=1,read-request=1",
		Generator: auto, Connections: 200, MaxAcceptP99: time.Minute, MaxFinalP99: time.Minute, MaxErrorRate: .05, Follow: 20,
		DrainTimeout: 30 * time.Second, StepDuration: time.Second, Out: "x",
	}
}

func TestRun(t *testing.T) {
	store := newRoomyStore(t, 0)
	for _, generator := range []string{withVegeta, withLight} {
		cfg := patient(store.base)
		cfg.Generator, cfg.Seed, cfg.WorkerURL = generator, 42, store.base
		var said strings.Builder
		var r *Report
		var results *Results
		for range 5 { // a void run says nothing: the machine has other things to do
			var err error
			r, results, err = Run(t.Context(), cfg, Env{Build: Build{Version: "v1"}, Settings: []Setting{{"rate", "100"}},
				Progress: &said})
			require.NoError(t, err)
			if r.Verdict != Void {
				break
			}
		}
		require.Equal(t, Pass, r.Verdict, r.Why)
		require.Empty(t, r.Why)
		require.Equal(t, generator, r.Load.Generator)
		require.Equal(t, "100/1s", r.Load.Schedule)
		require.EqualValues(t, 100, r.Load.Asked)
		require.EqualValues(t, 42, r.Seed)
		require.Contains(t, said.String(), "seed 42")
		require.Equal(t, "v9 abc", r.Build.Server)
		require.Positive(t, r.Reconciliation.Success)
		require.Equal(t, r.Reconciliation.Accepted, r.Reconciliation.Success+r.Reconciliation.Failed)
		require.Positive(t, r.Final.Count)
		require.NotEmpty(t, seriesNamed(r.Series, inFlight).Points)
		require.NotEmpty(t, seriesNamed(r.Series, workerLag).Points)
		require.Len(t, r.Timeline, 2)
		dir := filepath.Join(t.TempDir(), "report")
		require.NoError(t, Write(dir, r, results))
	}
}

func TestInterruptedRunIsStillProven(t *testing.T) {
	store := newRoomyStore(t, 0)
	ctx, interrupt := context.WithCancel(t.Context())
	posts := 0
	store.before = func() {
		if posts++; posts == 60 {
			interrupt()
		}
	}
	cfg := patient(store.base)
	cfg.Duration = time.Hour
	r, _, err := Run(ctx, cfg, Env{})
	require.NoError(t, err)
	require.Equal(t, Void, r.Verdict, r.Why)
	require.Contains(t, r.Why[0], "the load was interrupted after")
	require.GreaterOrEqual(t, r.Reconciliation.Success, uint64(20))
	require.Zero(t, r.Reconciliation.Stuck.Count)
	require.Greater(t, r.Load.Asked, uint64(30))
	require.Less(t, r.Load.Asked, uint64(10_000), "only what was due by then was asked for")
}

// A target that stops answering fails the run, and does not hang it.
func TestTargetThatDies(t *testing.T) {
	store := newRoomyStore(t, 0)
	front := httptest.NewServer(store)
	defer front.Close()
	posts := 0
	store.before = func() {
		if posts++; posts == 60 {
			go func() { front.Listener.Close(); front.CloseClientConnections() }()
		}
	}
	cfg := patient(front.URL)
	cfg.DrainTimeout = time.Second
	r, _, err := Run(t.Context(), cfg, Env{})
	require.NoError(t, err)
	require.Equal(t, Fail, r.Verdict)
	require.Positive(t, r.Reconciliation.Stuck.Count)
	require.Greater(t, r.Load.Errors, .1)
}

func TestRunsThatCanNotBegin(t *testing.T) {
	store := newRoomyStore(t, 0)
	f := func(want string, change func(*Config)) {
		t.Helper()
		cfg := patient(store.base)
		change(&cfg)
		_, _, err := Run(t.Context(), cfg, Env{})
		require.ErrorContains(t, err, want)
		_, _, err = FindCapacity(t.Context(), cfg, Env{})
		require.ErrorContains(t, err, want)
	}
	f("the target is not ready (--target)", func(c *Config) { c.Target = "http://127.0.0.1:1" })
	f("name a target with --target", func(c *Config) { c.Target = "" })
	f("--rate", func(c *Config) { c.Rate = 0 })
	f("--mix", func(c *Config) { c.Mix = "news=1" })
	f("--database-url", func(c *Config) { c.DatabaseURL = "postgres://127.0.0.1:1/x?connect_timeout=1" })
}

func TestValidate(t *testing.T) {
	f := func(want string, change func(*Config)) {
		t.Helper()
		cfg := patient("http://127.0.0.1:8000")
		require.NoError(t, cfg.Validate())
		change(&cfg)
		err := cfg.Validate()
		require.Error(t, err, want)
		assert.True(t, strings.HasPrefix(err.Error(), want+": "), err)
		assert.NotContains(t, err.Error(), "s3cret")
	}
	f("--target", func(c *Config) { c.Target = "127.0.0.1:8000" })
	f("--target", func(c *Config) { c.Target = "http://u:s3cret@h/api" })
	f("--worker-url", func(c *Config) { c.WorkerURL = "https://h" })
	f("--database-url", func(c *Config) { c.DatabaseURL = "s3cret" })
	f("--database-url", func(c *Config) { c.Target, c.DatabaseURL = "", "postgres://u:s3cret@h/d" })
	f("--kafka-brokers", func(c *Config) { c.KafkaBrokers = []string{"kafka"} })
	f("--rate", func(c *Config) { c.Rate = 1e9 })
	f("--duration", func(c *Config) { c.Duration = 0 })
	f("--warmup", func(c *Config) { c.Warmup = -1 })
	f("--stages", func(c *Config) { c.Stages = "1000" })
	f("--stages", func(c *Config) { c.Stages, c.FindCapacity = "1/1s", true })
	f("--mix", func(c *Config) { c.Mix = "new" })
	f("--generator", func(c *Config) { c.Generator = "k6" })
	f("--connections", func(c *Config) { c.Connections = 0 })
	f("--max-accept-p99", func(c *Config) { c.MaxAcceptP99 = 0 })
	f("--max-final-p99", func(c *Config) { c.MaxFinalP99 = 0 })
	f("--max-error-rate", func(c *Config) { c.MaxErrorRate = 2 })
	f("--follow", func(c *Config) { c.Follow = 0 })
	f("--drain-timeout", func(c *Config) { c.DrainTimeout = 0 })
	f("--step-duration", func(c *Config) { c.StepDuration = 0 })
	f("--out", func(c *Config) { c.Out = "" })
}
