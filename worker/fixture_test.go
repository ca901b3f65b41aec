package worker

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/kafka"
	"tradestore/test/stack"
	"tradestore/trade"
)

func TestMain(m *testing.M) { stack.Main(m) }

const (
	topic   = "trades"
	patient = 30 * time.Second // for an event that comes at once on an idle machine
	often   = 5 * time.Millisecond
)

// fixture is a broker with a topic, a producer, and a store in memory.
type fixture struct {
	t        testing.TB
	cluster  *kfake.Cluster
	producer *kgo.Client
	id       trade.TopicID
	store    *fake
	parts    int
	sent     []trade.Request
}

func newFixture(t testing.TB, partitions int) *fixture {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	r := &fixture{t: t, cluster: cluster, parts: partitions}
	cfg := r.kafka("test")
	r.id, err = kafka.CreateTopic(t.Context(), cfg, kafka.TopicSpec{Partitions: partitions})
	require.NoError(t, err)
	r.producer, err = kafka.NewProducer(cfg, prometheus.NewRegistry(), zerolog.Nop())
	require.NoError(t, err)
	t.Cleanup(r.producer.Close)
	r.store = newFake(t, r.id, partitions)
	return r
}

// kafka is the configuration of a client.
func (r *fixture) kafka(clientID string) kafka.Config {
	return kafka.Config{Brokers: r.cluster.ListenAddrs(), Topic: topic, ClientID: clientID}
}

// request is a good one for a trade, accepted now.
func (r *fixture) request(id string, version int32, book string) trade.Request {
	now := time.Now().UTC().Truncate(time.Microsecond)
	today := trade.DateOf(now)
	return trade.Request{
		ID: trade.NewRequestID(now), AcceptedAt: now, BusinessDate: today, Partition: kafka.Partition(id, r.parts),
		CorrelationID: "corr", Trade: trade.Trade{
			TradeID: id, Version: version, CounterpartyID: "CP", BookID: book, MaturityDate: today, CreatedDate: today,
		},
	}
}

// send writes a request to the log.
func (r *fixture) send(requests ...trade.Request) {
	r.t.Helper()
	records := make([]*kgo.Record, len(requests))
	for i := range requests {
		records[i] = kafka.Encode(topic, &requests[i])
	}
	r.raw(records...)
	r.sent = append(r.sent, requests...)
}

// raw writes records as they are.
func (r *fixture) raw(records ...*kgo.Record) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	require.NoError(r.t, r.producer.ProduceSync(ctx, records...).FirstErr())
}

// post sends n requests of distinct trades.
func (r *fixture) post(prefix string, n int) {
	r.t.Helper()
	var all []trade.Request
	for i := range n {
		all = append(all, r.request(fmt.Sprintf("%s-%d", prefix, i), 1, "B"))
	}
	r.send(all...)
}

// running is a worker under test.
type running struct {
	*Worker
	t      testing.TB
	reg    *prometheus.Registry
	log    *syncBuffer
	cancel context.CancelFunc
	done   chan error
	once   sync.Once
	err    error
}

func (r *fixture) config() Config {
	c := DefaultConfig()
	c.Kafka = r.kafka("worker")
	c.Kafka.FetchMaxWait = 50 * time.Millisecond
	c.Group, c.SessionTimeout = "workers", time.Second
	c.Partitions, c.Lanes = r.parts, 1
	c.CheckInterval, c.DrainLimit = 50*time.Millisecond, 5*time.Second
	c.OrphanAfter, c.AcceptDeadline, c.DeliveryTimeout = time.Minute, 3*time.Second, 10*time.Second
	c.RetryMin, c.RetryMax, c.CommitInterval = time.Millisecond, 10*time.Millisecond, time.Millisecond
	c.ApplyPause = 1 // in effect none
	c.ProjectInterval, c.ProjectLimit = 20*time.Millisecond, 7
	return c
}

// deps are those of a worker whose stores are the fake.
func (r *fixture) deps(reg prometheus.Registerer) Deps {
	return Deps{
		Store: r.store, Journal: r.store, Closer: r.store, Requests: r.store, Maintainer: r.store,
		Registry: reg, Now: time.Now,
	}
}

// start runs a worker until the end of the test, where it must drain well.
func (r *fixture) start(change func(*Config, *Deps)) *running {
	r.t.Helper()
	run := &running{t: r.t, reg: prometheus.NewRegistry(), log: &syncBuffer{}, done: make(chan error, 1)}
	cfg := r.config()
	deps := r.deps(run.reg)
	deps.Log = zerolog.New(run.log).Level(zerolog.InfoLevel)
	if change != nil {
		change(&cfg, &deps)
	}
	var err error
	run.Worker, err = New(cfg, deps)
	require.NoError(r.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	run.cancel = cancel
	go func() { run.done <- run.Run(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		run.wait()
		if r.t.Failed() {
			r.t.Logf("log of the worker:\n%s", run.log)
		}
	})
	return run
}

// wait returns what Run returned.
func (run *running) wait() error {
	run.t.Helper()
	run.once.Do(func() {
		select {
		case run.err = <-run.done:
		case <-time.After(2 * patient):
			run.err = fmt.Errorf("the worker did not end")
			run.t.Error(run.err)
		}
	})
	return run.err
}

// drain ends the worker, which must drain well.
func (run *running) drain() {
	run.t.Helper()
	run.cancel()
	require.NoError(run.t, run.wait())
}

// stopped waits for a loud stop and returns its error.
func (run *running) stopped() error {
	run.t.Helper()
	err := run.wait()
	require.Error(run.t, err)
	require.Error(run.t, run.Ready())
	require.InDelta(run.t, 1, testutil.ToFloat64(run.metrics.stopped), 0)
	require.Contains(run.t, run.log.String(), `"level":"error"`)
	return err
}

func (r *fixture) eventually(what string, f func() bool) {
	r.t.Helper()
	require.Eventually(r.t, f, patient, often, what)
}

// applied waits until the positions moved over n records.
func (r *fixture) applied(n int) {
	r.t.Helper()
	r.eventually(fmt.Sprintf("%d records applied", n), func() bool { return r.store.next() >= int64(n) })
}

// reconcile checks that the store holds exactly what replaying the requests sent would give, and clients see it.
func (r *fixture) reconcile() {
	r.t.Helper()
	r.eventually("all projected", func() bool { return r.store.projected() >= len(r.sent) })
	records := make([]trade.Record, len(r.sent))
	for i, q := range r.sent {
		records[i] = trade.Record{Request: q}
	}
	plan := trade.Decide(records, nil, nil)
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	want := map[trade.Key]trade.Trade{}
	for _, row := range plan.Inserts {
		want[row.Trade.Key()] = row.Trade
	}
	require.Equal(r.t, want, r.store.trades)
	for _, d := range plan.Decisions {
		require.Equal(r.t, d.Status, r.store.status[d.Record.ID])
	}
	require.Len(r.t, r.store.decided, len(plan.Decisions))
}

// syncBuffer is a buffer that a log may write to while a test reads it.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
