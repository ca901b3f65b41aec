package worker

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tradestore/internal/checks"
	"tradestore/kafka"
	"tradestore/postgres"
	"tradestore/trade"
)

// steppedReaper is the orphan reaper of a running worker whose steps and clock the test drives.
type steppedReaper struct {
	*orphanReaper
	t   testing.TB
	now time.Duration
}

// byHand keeps the worker's own orphan reaper from running.
func byHand(c *Config, _ *Deps) { c.OrphanInterval = time.Hour }

func (run *running) reaper() *steppedReaper {
	run.t.Helper()
	require.Eventually(run.t, func() bool { return len(run.assigned()) == run.cfg.Partitions }, patient, often)
	s := &steppedReaper{orphanReaper: newOrphanReaper(run.Worker), t: run.t}
	s.monotonic = func() time.Duration { return s.now }
	return s
}

// after lets time pass and takes a step.
func (s *steppedReaper) after(d time.Duration) {
	s.t.Helper()
	s.now += d
	require.NoError(s.t, s.step(s.t.Context()))
}

// metricsAre compares what is counted: requests closed, projected, waiting for time, waiting for a position.
func (s *steppedReaper) metricsAre(closed, projected, time, position float64) {
	s.t.Helper()
	m := s.observe.metrics
	assert.Equal(s.t, [...]float64{closed, projected, time, position}, [...]float64{
		testutil.ToFloat64(m.orphansClosed), testutil.ToFloat64(m.orphansProjected),
		testutil.ToFloat64(m.pending.WithLabelValues(forTime)), testutil.ToFloat64(m.pending.WithLabelValues(forPosition)),
	})
}

const long = time.Minute // orphan-after, unless told otherwise

// opened is a request that was accepted an hour ago.
func (r *fixture) opened(id string) trade.Request {
	q := r.request(id, 1, "B")
	q.AcceptedAt = q.AcceptedAt.Add(-time.Hour)
	q.BusinessDate = trade.DateOf(q.AcceptedAt)
	q.CorrelationID = "call of " + id
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	r.store.entries = append(r.store.entries, trade.PendingRequest{
		ID: q.ID, AcceptedAt: q.AcceptedAt, Partition: q.Partition, TradeID: id, Version: 1, CorrelationID: q.CorrelationID,
	})
	return q
}

// opened is the same with an entry in PostgreSQL.
func (r *onPostgres) opened(id string) trade.Request {
	r.t.Helper()
	q := r.fixture.opened(id)
	require.Nil(r.t, postgres.NewRequestStore(r.pool).Open(r.t.Context(), []*trade.Request{&q}))
	return q
}

// state is what a client sees.
func (r *onPostgres) state(q trade.Request) trade.RequestState {
	r.t.Helper()
	state, err := postgres.NewRequestStore(r.pool).Get(r.t.Context(), q.ID)
	require.NoError(r.t, err)
	return state
}

func TestAnOrphanIsClosed(t *testing.T) {
	t.Parallel()
	r := newOnPostgres(t, 2)
	w := r.start(byHand)
	s := w.reaper()
	r.post("T", 10)
	r.applied(10)
	orphan := r.opened("O")
	s.after(0)
	s.metricsAre(0, 0, 1, 0)
	s.after(long - 1)
	s.metricsAre(0, 0, 1, 0)
	require.Equal(t, trade.Pending, r.state(orphan).Status)
	assert.InDelta(t, 3600, w.value("tradestore_orphan_oldest_seconds"), 600)
	s.after(1)
	state := r.state(orphan)
	require.Equal(t, trade.NotDelivered, state.Reason)
	require.Equal(t, trade.Failed, state.Status)
	require.NotEmpty(t, state.Detail)
	assert.Contains(t, w.log.String(), `"correlation_id":"call of O"`)
	s.after(long)
	s.metricsAre(1, 0, 0, 0)
	assert.Zero(t, w.value("tradestore_orphan_oldest_seconds"))

	// Its record lands after all: it is read, and changes nothing (rule R5).
	rec := kafka.Encode(topic, &orphan)
	r.raw(rec)
	r.applied(11)
	w.drain()
	assert.InDelta(t, 1, testutil.ToFloat64(w.metrics.duplicates), 0)
	assert.Equal(t, state, r.state(orphan))
	assert.Zero(t, r.count(`SELECT count(*) FROM trades WHERE trade_id = 'O'`))
	assert.Equal(t, 10, r.count(`SELECT count(*) FROM trades`))
}

// An acknowledged record that is still in the backlog wins, however long that takes (rule R3).
func TestABacklogIsWaitedFor(t *testing.T) {
	t.Parallel()
	r := newOnPostgres(t, 1)
	cut := &unreachable{}
	cut.down.Store(true)
	w := r.start(func(c *Config, d *Deps) {
		byHand(c, d)
		cut.TradeStore = d.Store
		d.Store = cut
	})
	s := w.reaper()
	delivered, orphan := r.opened("D"), r.opened("O")
	r.send(delivered)
	s.after(0)
	for range 3 {
		s.after(10 * long)
		s.metricsAre(0, 0, 0, 2)
	}
	r.post("later", 20) // the end that is waited for does not run away
	s.after(long)
	require.Equal(t, int64(1), s.observations[orphan.ID].end)
	cut.down.Store(false)
	r.applied(21)
	s.after(0)
	s.metricsAre(1, 0, 0, 1)
	require.Equal(t, trade.Success, r.state(delivered).Status)
	require.Equal(t, trade.NotDelivered, r.state(orphan).Reason)
}

// An orphan reaper that starts over, or meets an entry again after it lost the partition, waits again.
func TestARestartBeginsTheWaitAnew(t *testing.T) {
	t.Parallel()
	r := newOnPostgres(t, 1)
	w := r.start(byHand)
	first := w.reaper()
	orphan := r.opened("O")
	first.after(0)
	first.after(long - 1)
	second := w.reaper()
	second.now = 10 * long
	second.after(0)
	second.after(long - 1)
	second.metricsAre(0, 0, 1, 0)
	second.after(1)
	first.after(1) // the other one is late and finds nothing to do
	second.metricsAre(1, 0, 0, 0)
	require.Equal(t, trade.NotDelivered, r.state(orphan).Reason)
	require.Equal(t, 1, r.count(`SELECT count(*) FROM journal`))
}

// The loop runs by itself.
func TestOrphansOfAllPartitionsAreClosed(t *testing.T) {
	t.Parallel()
	r := newOnPostgres(t, 4)
	w := r.start(func(c *Config, _ *Deps) {
		c.AcceptDeadline, c.DeliveryTimeout = time.Millisecond, time.Millisecond
		c.OrphanAfter, c.OrphanInterval = 10*time.Millisecond, 5*time.Millisecond
		c.Lanes, c.OrphanLimit = 2, 20 // fewer than there are: the rest has its turn
	})
	for i := range 50 {
		r.opened(fmt.Sprintf("O-%d", i))
	}
	r.post("T", 50)
	r.applied(50)
	r.eventually("closed", func() bool {
		return r.count(`SELECT count(*) FROM journal WHERE reason = 'NOT_DELIVERED'`) == 50
	})
	w.drain()
	assert.Zero(t, testutil.ToFloat64(w.metrics.orphanErrors))
}

// A request store elsewhere may not have been told of an outcome that the projector's cursor has passed (rule R1).
func TestALostProjectionIsRepeated(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 1)
	w := r.start(byHand)
	q := r.opened("T")
	r.send(q)
	r.applied(1)
	r.reconcile()
	forget := func() {
		r.store.mu.Lock()
		defer r.store.mu.Unlock()
		delete(r.store.status, q.ID)
	}
	s := w.reaper()
	r.eventually("passed", func() bool {
		r.store.mu.Lock()
		defer r.store.mu.Unlock()
		return r.store.cursor[0] == 1
	})
	forget()
	s.after(0)
	s.metricsAre(0, 1, 0, 0)
	r.reconcile()
	require.Zero(t, r.store.count("Close"))
}

// Every call of a step fails, before and after it took effect, once: the next steps get to the same end.
func TestAStepThatFailsIsRepeated(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"Pending", "Outcomes", "Positions", "Close", "Project"} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, persisted %v", call, late), func(t *testing.T) {
				t.Parallel()
				r := newFixture(t, 1)
				s := r.start(byHand).reaper()
				orphan := r.opened("O")
				failed := 0
				r.store.failing(func(name string, _ int, after bool, _ *trade.Batch) error {
					if name != call || after != late || failed > 0 {
						return nil
					}
					failed++
					return errors.New("connection reset")
				})
				errs := 0
				for range 5 {
					s.now += long
					if s.step(t.Context()) != nil {
						errs++
					}
				}
				require.Equal(t, 1, errs)
				require.Equal(t, 1, failed)
				require.Equal(t, trade.Failed, r.store.status[orphan.ID])
				require.Len(t, r.store.closed, 1)
			})
		}
	}
}

// A position that went back, as after a restored backup, is met under the lock, and the request waits on.
func TestAPositionThatWentBackIsWaitedFor(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 1)
	s := r.start(byHand).reaper()
	r.post("T", 3)
	r.applied(3)
	orphan := r.opened("O")
	s.after(0)
	move := func(to int64) {
		r.store.mu.Lock()
		defer r.store.mu.Unlock()
		r.store.positions[0].NextOffset = to
	}
	reads := 0
	r.store.failing(func(call string, _ int, after bool, _ *trade.Batch) error {
		if call == "Positions" && after {
			if reads++; reads == 2 { // the first one is for the epoch
				move(2)
			}
		}
		return nil
	})
	s.now += long
	require.Equal(t, trade.Fenced, trade.ClassOf(s.step(t.Context())))
	r.store.failing(nil)
	move(3)
	s.after(0)
	require.Equal(t, trade.NotDelivered, r.store.closed[orphan.ID].Reason)
}

// A leader that was replaced and does not know it says an end that lies below newer records: that is no answer. Nor is
// one that does not know its own epoch yet.
func TestAStaleLeaderIsNotBelieved(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 1)
	s := r.start(byHand).reaper()
	orphan := r.opened("O")
	s.after(0)
	asked, code := 0, kerr.FencedLeaderEpoch.Code
	r.cluster.ControlKey(int16(kmsg.ListOffsets), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		req := kreq.(*kmsg.ListOffsetsRequest)
		p := req.Topics[0].Partitions[0]
		if p.CurrentLeaderEpoch < 0 || code == 0 {
			return nil, nil, false // the lag of the metrics
		}
		asked++
		resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
		answer := kmsg.NewListOffsetsResponseTopicPartition()
		answer.Partition, answer.Offset, answer.ErrorCode = p.Partition, 0, code
		topic := kmsg.NewListOffsetsResponseTopic()
		topic.Topic, topic.Partitions = req.Topics[0].Topic, append(topic.Partitions, answer)
		resp.Topics = append(resp.Topics, topic)
		return resp, nil, true
	})
	s.after(long)
	require.Positive(t, asked, "the end is asked for with an epoch")
	require.Equal(t, int64(endUnknown), s.observations[orphan.ID].end)
	code = kerr.UnknownLeaderEpoch.Code
	s.after(long)
	require.Equal(t, int64(endUnknown), s.observations[orphan.ID].end)
	require.Zero(t, r.store.count("Close"))
	code = 0
	s.after(long)
	require.Equal(t, trade.NotDelivered, r.store.closed[orphan.ID].Reason)
}

// The log has lost records that may have been those of the request: nobody can tell, so it stays PENDING.
func TestARequestOlderThanTheLogIsNotClosed(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 1)
	s := r.start(byHand).reaper()
	r.post("T", 3)
	r.applied(3)
	r.opened("O") // an hour ago
	var upTo kadm.Offsets
	upTo.Add(kadm.Offset{Topic: topic, Partition: 0, At: 1})
	_, err := kadm.NewClient(r.producer).DeleteRecords(t.Context(), upTo)
	require.NoError(t, err)
	s.after(0)
	s.after(long)
	s.after(long)
	s.metricsAre(0, 0, 0, 0)
	require.InDelta(t, 1, testutil.ToFloat64(s.observe.metrics.pending.WithLabelValues(forOperator)), 0)
	require.Zero(t, r.store.count("Close"))
}

// A topic made again under its name is empty: everything would look undelivered.
func TestATopicMadeAgainClosesNothing(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 1)
	s := r.start(func(c *Config, d *Deps) {
		byHand(c, d)
		c.CheckInterval = time.Hour
	}).reaper()
	r.opened("O")
	s.after(0)
	admin := kadm.NewClient(r.producer)
	_, err := admin.DeleteTopics(t.Context(), topic)
	require.NoError(t, err)
	_, err = kafka.CreateTopic(context.Background(), r.kafka("again"), kafka.TopicSpec{Partitions: 1})
	require.NoError(t, err)
	s.now += long
	require.Eventually(t, func() bool { return checks.IsFatal(s.step(t.Context())) }, patient, often)
	require.Zero(t, r.store.count("Close"))
}

// More are asked for while there are more; what was seen stays in the answer.
func TestTheLimitFollowsWhatThereIs(t *testing.T) {
	t.Parallel()
	s := newOrphanReaper(&Worker{cfg: Config{OrphanLimit: 5000}})
	f := func(found, want int) {
		t.Helper()
		s.adjustLimit(found)
		require.Equal(t, want, s.limit)
	}
	f(0, 1000)
	f(999, 1000)
	f(1000, 2000)
	f(2000, 4000)
	f(4000, 5000)
	f(5000, 5000)
	f(1300, 5000)
	f(1200, 2500)
	f(0, 1250)
	f(0, 1000)
}
