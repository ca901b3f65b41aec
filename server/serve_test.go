package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

func TestFullQueueShedsWithoutAStoreCall(t *testing.T) {
	t.Parallel()
	f := func(change func(*Config), admitted int, cause string) {
		t.Helper()
		a := start(t, func(cfg *Config, _ *Deps) { cfg.Flushes = 1; change(cfg) })
		barrier := newBarrier()
		a.stores.set(func() { a.stores.onLookUp = func(context.Context) error { barrier.pass(); return nil } })
		var posts sync.WaitGroup
		for i := range admitted {
			posts.Go(func() { a.post(tradeJSON(fmt.Sprint("T", i), 1)).accepted(t) })
		}
		eventually(t, func() bool { return a.srv.queue.snapshot().items == admitted })
		barrier.reached(t)
		for range 20 {
			a.post(tradeJSON("T9", 1)).noEffect(t, QueueFull)
		}
		lookUps, opens := a.stores.calls()
		assert.Equal(t, 1, lookUps, "only the flush that hangs")
		assert.Zero(t, opens)
		counted(t, 20, a.srv.m.shed[cause])
		barrier.open()
		posts.Wait()
		a.post(tradeJSON("T9", 1)).accepted(t)
		eventually(t, func() bool { return a.srv.queue.snapshot() == queueLoad{} })
	}
	body := len(tradeJSON("T1", 1))
	f(func(cfg *Config) { cfg.QueueItems = 3 }, 3, shedItems)
	f(func(cfg *Config) {
		cfg.MaxBodyBytes = sampleBody
		cfg.QueueBytes = 2*(body+postOverhead) + 1
	}, 2, shedBytes)
}

func verified() error { return nil }

// While the checks do not pass no POST has an effect; a check that fails also stops posts that wait for a flush.
func TestPostsAreRejectedUntilTheChecksPass(t *testing.T) {
	t.Parallel()
	var passed atomic.Bool
	a := start(t, func(_ *Config, deps *Deps) {
		deps.Verified = func() error {
			if passed.Load() {
				return nil
			}
			return errDown
		}
	})
	f := func(headers ...string) {
		t.Helper()
		r := a.post(tradeJSON("T1", 1), headers...)
		r.noEffect(t, NotReady)
		assert.Equal(t, "2", r.header.Get("Retry-After"))
		assert.NotContains(t, r.body, "secret-host")
		r = a.bulk([]string{tradeJSON("T1", 1), `{}`, tradeJSON("T2", 1)}, headers...)
		items := r.items(t, 3)
		items[0].noEffect(NotReady)
		items[1].problem(400, trade.InvalidTrade)
		items[2].noEffect(NotReady)
		assert.Equal(t, "2", r.header.Get("Retry-After"))
	}
	f()
	f("Idempotency-Key: k")
	a.get(tradesPath+"/T1").problem(t, 404, NotFound)
	lookUps, opens := a.stores.calls()
	assert.Zero(t, lookUps+opens)
	a.stores.set(func() { assert.Empty(t, a.stores.keys) })
	counted(t, 2, a.srv.m.problems.WithLabelValues(string(NotReady)))

	passed.Store(true)
	a.post(tradeJSON("T1", 1)).accepted(t)
	barrier := newBarrier()
	a.stores.set(func() { a.stores.onLookUp = func(context.Context) error { barrier.pass(); return nil } })
	waits := a.later(func() reply { return a.post(tradeJSON("T2", 1)) })
	barrier.reached(t)
	passed.Store(false)
	barrier.open()
	(<-waits).noEffect(t, NotReady)
	_, opens = a.stores.calls()
	assert.Equal(t, 1, opens)
	a.records(1)
}

func TestRetryAfterFollowsTheDrainRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(&Config{}, verified, newMetrics())
		answer := func(perSecond, seconds int) {
			for range seconds {
				for range perSecond {
					q.rate.add(time.Now())
				}
				time.Sleep(time.Second)
			}
		}
		f := func(items, want int) {
			t.Helper()
			q.load.items = items
			assert.Equal(t, want, q.retryAfter())
		}
		f(10, 30) // nothing was answered so far
		answer(100, 3)
		f(50, 1)
		f(100, 1)
		f(101, 2)
		f(1000, 10)
		f(100_000, 30)
		answer(10, 3)
		f(100, 10)
		time.Sleep(10 * time.Second) // nothing moves
		f(10, 30)
	})
}

// The line is as long as it can be served in time, once there is one that is not.
func TestAQueueThatIsTooLongIsShed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(&Config{AcceptDeadline: 4 * time.Second, Flushes: 2}, verified, newMetrics())
		for range 3 {
			for range 1000 {
				q.rate.add(time.Now())
			}
			time.Sleep(time.Second)
		}
		f := func(waited time.Duration, items int, late bool) {
			t.Helper()
			q.shares[1].waiting = []*pendingPost{{arrived: time.Now().Add(-waited)}}
			q.load.items = items
			assert.Equal(t, late, q.late(time.Now()))
		}
		f(499*time.Millisecond, 100_000, false) // a burst
		f(500*time.Millisecond, 1999, false)
		f(500*time.Millisecond, 2000, true)
		q.shares[1].waiting = nil
		assert.False(t, q.late(time.Now()), "nobody waits")
		time.Sleep(10 * time.Second) // nothing is answered
		f(10*time.Second, minBacklog-1, false)
		f(10*time.Second, minBacklog, true)
	})
}

func TestBatchesAreCapped(t *testing.T) {
	t.Parallel()
	a := start(t, func(cfg *Config, _ *Deps) { cfg.Flushes, cfg.MaxBatch = 1, 4 })
	barrier := newBarrier()
	a.stores.set(func() { a.stores.onLookUp = func(context.Context) error { barrier.pass(); return nil } })
	var posts sync.WaitGroup
	for i := range 10 {
		posts.Go(func() { a.post(tradeJSON(fmt.Sprint("T", i), 1)).accepted(t) })
	}
	eventually(t, func() bool { return a.srv.queue.snapshot().items == 10 })
	barrier.open()
	posts.Wait()
	assert.Equal(t, 4, a.stores.largest)
	a.records(10)
}

func TestDrainUnderLoadLosesNothing(t *testing.T) {
	a := start(t, nil)
	var posts sync.WaitGroup
	var accepted atomic.Int64
	for client := range 8 {
		posts.Go(func() {
			for i := range 1_000_000 {
				r := a.post(tradeJSON(fmt.Sprintf("T%d-%d", client, i), 1))
				if r.err != nil {
					return // the connection closed, or nobody listens any more
				}
				r.accepted(t)
				accepted.Add(1)
			}
		})
	}
	eventually(t, func() bool { return accepted.Load() > 200 })
	ctx, cancel := context.WithTimeout(context.Background(), giveUpAfter)
	defer cancel()
	require.NoError(t, a.srv.Drain(ctx))
	require.NoError(t, <-a.served)
	posts.Wait()
	a.stores.mu.Lock()
	opened := len(a.stores.opened)
	a.stores.mu.Unlock()
	assert.LessOrEqual(t, accepted.Load(), int64(opened))
	a.records(opened) // every request that was opened got its record, every 202 among them
	_, err := net.Dial("tcp", a.addr)
	require.Error(t, err)
}

func TestDrainSaysNotReadyFirst(t *testing.T) {
	t.Parallel()
	a := start(t, func(cfg *Config, _ *Deps) { cfg.DrainDelay = time.Hour })
	assert.JSONEq(t, `{"status":"ok"}`, a.get("/readyz").body)
	ctx, cancel := context.WithCancel(context.Background())
	drained := make(chan error)
	go func() { drained <- a.srv.Drain(ctx) }()
	eventually(t, func() bool { return a.srv.draining.Load() })
	r, closed := a.raw(message("GET /readyz HTTP/1.1", ""))
	assert.Equal(t, 503, r.status)
	assert.JSONEq(t, `{"status":"draining"}`, r.body)
	assert.True(t, closed, "clients are sent elsewhere")
	assert.Equal(t, 503, a.get(healthPath).status)
	assert.Equal(t, 200, a.get("/livez").status)
	a.post(tradeJSON("T1", 1)).accepted(t) // not ready is not closed
	cancel()
	<-drained
	require.NoError(t, <-a.served)
	a.srv.cfg.DrainDelay = 0 // for the drain at the end of the test
}

func TestDrainThatRunsOutOfTimeSaysWhatIsLeft(t *testing.T) {
	a := start(t, nil)
	barrier := newBarrier()
	a.stores.set(func() { a.stores.onLookUp = func(context.Context) error { barrier.pass(); return nil } })
	go func() { a.post(tradeJSON("T1", 1)) }()
	barrier.reached(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := a.srv.Drain(ctx)
	require.ErrorIs(t, err, context.Canceled)
	assert.ErrorContains(t, err, "drain-timeout")
	assert.ErrorContains(t, err, "requests under way")
	c := &pendingPost{cost: 1}
	_, shed := a.srv.queue.admit(c)
	assert.Equal(t, ShuttingDown, shed.code)
	barrier.open()
}

func TestServeAfterDrainReturnsAtOnce(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	eventually(t, func() bool { return a.srv.conns.Load() != nil })
	require.ErrorContains(t, a.srv.Serve(ln), "twice")
	a.srv.conns.Store(nil)
	a.srv.draining.Store(true)
	require.NoError(t, a.srv.Serve(ln))
	_, err = ln.Accept()
	assert.ErrorIs(t, err, net.ErrClosed)
}

func TestHealthNamesEachCheck(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	a := start(t, func(cfg *Config, deps *Deps) {
		cfg.ProbeMaxAge = time.Nanosecond
		deps.Checks = []Check{
			{Name: "database", Probe: func(context.Context) error {
				if down.Load() {
					return errDown
				}
				return nil
			}},
			{Name: "kafka", Probe: func(ctx context.Context) error {
				if down.Load() {
					panic("bug")
				}
				return ctx.Err()
			}},
		}
	})
	f := func(status int, overall, database, kafka string) {
		t.Helper()
		r := a.get(healthPath)
		assert.Equal(t, status, r.status)
		m := r.fields(t)
		checks := m["checks"].(map[string]any)
		of := func(name string) any { return checks[name].(map[string]any)["status"] }
		assert.Equal(t, []any{overall, "ok", database, kafka}, []any{m["status"], of("api"), of("database"), of("kafka")})
		assert.NotContains(t, r.body, "secret-host")
		ready := a.get("/readyz")
		assert.Equal(t, status, ready.status)
		assert.JSONEq(t, `{"status":"`+overall+`"}`, ready.body)
	}
	f(200, "ok", "ok", "ok")
	down.Store(true)
	f(503, "failed", "unavailable", "unavailable")
	counted(t, 0, a.srv.m.checkUp.WithLabelValues("database"))
	down.Store(false)
	f(200, "ok", "ok", "ok")
	counted(t, 1, a.srv.m.checkUp.WithLabelValues("database"))
	assert.Equal(t, 2, strings.Count(a.log.String(), "check failed"), "a change is logged once")
	assert.Equal(t, 2, strings.Count(a.log.String(), "well again"))
}

func TestReadyWithoutWhatIsSpare(t *testing.T) {
	t.Parallel()
	a := start(t, func(_ *Config, deps *Deps) {
		deps.Checks = []Check{{Name: "database", Probe: func(context.Context) error { return errDown }, Spare: true}}
	})
	assert.Equal(t, 503, a.get(healthPath).status)
	ready := a.get("/readyz")
	assert.Equal(t, 200, ready.status)
	assert.JSONEq(t, `{"status":"ok"}`, ready.body)
}

func TestProbesAreSharedAndNeverPileUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var probes, running atomic.Int64
		release := make(chan struct{})
		h := newHealth(&Config{ProbeTimeout: time.Second, ProbeMaxAge: time.Second}, []Check{
			{Name: "quick", Probe: func(context.Context) error { probes.Add(1); return nil }},
			// ignores its time limit
			{Name: "deaf", Probe: func(context.Context) error { running.Add(1); <-release; return nil }},
		}, newMetrics(), zerolog.Nop())
		flood := func(want ...string) {
			t.Helper()
			var calls sync.WaitGroup
			for range 1000 {
				calls.Go(func() {
					results := h.ask()
					for i := range want {
						assert.Equal(t, want[i], results[i].status)
					}
				})
			}
			calls.Wait()
		}
		flood("ok", "timeout")
		flood("ok", "timeout")
		assert.EqualValues(t, 1, probes.Load(), "one round serves everyone")
		time.Sleep(2 * time.Second)
		flood("ok", "timeout")
		assert.EqualValues(t, 2, probes.Load())
		assert.EqualValues(t, 1, running.Load(), "the probe that hangs is not joined by another")
		close(release)
		time.Sleep(2 * time.Second)
		flood("ok", "ok")
	})
}

func TestSlowProbeTimesOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHealth(&Config{ProbeTimeout: time.Second, ProbeMaxAge: time.Second}, []Check{
			{Name: "slow", Probe: func(ctx context.Context) error { <-ctx.Done(); return errors.Join(errDown, ctx.Err()) }},
		}, newMetrics(), zerolog.Nop())
		assert.Equal(t, statusTimeout, h.ask()[0].status)
	})
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	a := start(t, func(_ *Config, deps *Deps) {
		deps.Checks = []Check{{Name: "database", Probe: func(context.Context) error { return nil }}}
	})
	a.post(tradeJSON("T1", 1)).accepted(t)
	a.post(`{}`).problem(t, 400, trade.InvalidTrade)
	a.send("BREW", "/made/up", "").problem(t, 404, NotFound)
	counted(t, 1, a.srv.m.requests.WithLabelValues(tradesPath, "POST", "202"))
	counted(t, 1, a.srv.m.requests.WithLabelValues(noRoute, "other", "404"))
	counted(t, 1, a.srv.m.problems.WithLabelValues(string(trade.InvalidTrade)))

	r := a.get("/metrics")
	assert.Equal(t, 200, r.status)
	assert.Contains(t, r.header.Get("Content-Type"), "text/plain; version=0.0.4")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(r.body))
	require.NoError(t, err)
	problems, err := promlint.New(strings.NewReader(r.body)).Lint()
	require.NoError(t, err)
	for _, p := range problems {
		assert.NotContains(t, p.Metric, "tradestore_accept")
		assert.NotContains(t, p.Metric, "tradestore_http")
	}
	for name := range families {
		assert.True(t, strings.HasPrefix(name, "tradestore_") || strings.HasPrefix(name, "promhttp_"), name)
	}
	for _, want := range []string{
		`tradestore_http_requests_total{code="503",method="POST",route="/api/v1/trades"} 0`,
		`tradestore_http_problems_total{code="QUEUE_FULL"} 0`,
		`tradestore_accept_shed_total{cause="items"} 0`,
		`tradestore_accept_in_flight 0`,
		`tradestore_accept_in_flight_limit 8192`,
		`tradestore_accept_in_flight_limit_bytes 6.7108864e+07`,
		`tradestore_accept_duration_seconds_count 1`,
		`tradestore_accept_delivered_total 1`,
		`tradestore_http_requests_in_flight 1`, // this one
		`tradestore_http_request_duration_seconds_count{method="POST",route="/api/v1/trades"} 2`,
		`tradestore_accept_batch_size_count 1`,
		`tradestore_accept_stage_duration_seconds_count{stage="produce"} 1`,
		`tradestore_health_check_up{check="database"} 0`,
		`tradestore_http_connections `,
	} {
		assert.Contains(t, r.body, want)
	}
}

func TestCountingAnAnswerAllocatesNothing(t *testing.T) {
	m := newMetrics()
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		m.requests.WithLabelValues(tradesPath, "POST", "202").Inc()
		m.latency.WithLabelValues(tradesPath, "POST").Observe(.01)
		m.accepted.Observe(.01)
		m.queueWait.Observe(.001)
		m.produceStage.Observe(.001)
	}))
}

// A Prometheus that asks for protobuf gets native histograms; text has the classic ones alone.
func TestMetricsAreServedInTheFormatAskedFor(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	a.post(tradeJSON("T1", 1)).accepted(t)
	r := a.send("GET", "/metrics", "",
		"Accept: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	format := expfmt.ResponseFormat(r.header)
	require.Equal(t, expfmt.TypeProtoDelim, format.FormatType())
	decoder := expfmt.NewDecoder(strings.NewReader(r.body), format)
	for {
		var family dto.MetricFamily
		require.NoError(t, decoder.Decode(&family), "the page ends before the family")
		if family.GetName() == "tradestore_accept_duration_seconds" {
			h := family.GetMetric()[0].GetHistogram()
			require.NotEmpty(t, h.GetPositiveSpan())
			require.NotEmpty(t, h.GetBucket())
			return
		}
	}
}

func TestLogLines(t *testing.T) {
	a := start(t, nil)
	id := a.post(tradeJSON("T1", 1), "X-Correlation-ID: c-1").accepted(t)
	a.post(`{"secret":1}`, "X-Correlation-ID: c-2").problem(t, 400, trade.InvalidTrade)
	f := func(parts ...string) {
		t.Helper()
		for line := range strings.Lines(a.log.String()) {
			missing := 0
			for _, part := range parts {
				if !strings.Contains(line, part) {
					missing++
				}
			}
			if missing == 0 {
				return
			}
		}
		t.Errorf("no line with %q in\n%s", parts, a.log)
	}
	f(`"level":"debug"`, `"correlation_id":"c-1"`, `"request_id":"`+id.String()+`"`, `"trade_id":"T1"`, `"status":202`)
	f(`"level":"info"`, `"correlation_id":"c-2"`, `"code":"INVALID_TRADE"`, `"status":400`)
	assert.NotContains(t, a.log.String(), "secret")
	for range 200 {
		a.post(`{}`)
	}
	assert.Less(t, strings.Count(a.log.String(), "INVALID_TRADE"), 150, "clients can't flood the log")
}
