package worker

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tradestore/kafka"
	"tradestore/trade"
)

func TestWhatIsAcceptedIsAppliedAndProjected(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 4)
	w := r.start(func(c *Config, _ *Deps) { c.Lanes = 2 })
	r.post("T", 200)
	r.send(r.request("V", 5, "B"), r.request("V", 3, "B"), r.request("V", 5, "C"))
	r.applied(203)
	r.reconcile()
	require.NoError(t, w.Ready())
	w.drain()
	require.ErrorContains(t, w.Ready(), "stopped")
	assert.Zero(t, testutil.ToFloat64(w.metrics.fenced), "no one else moved a position")
}

// A duplicate of a decided request must not overwrite what came after it.
func TestALateDuplicateChangesNothing(t *testing.T) {
	t.Parallel()
	for _, most := range []int{1, 2, 10} {
		t.Run(fmt.Sprintf("%d a batch", most), func(t *testing.T) {
			t.Parallel()
			r := newFixture(t, 1)
			a, b := r.request("T", 1, "A"), r.request("T", 1, "B")
			r.send(a, b, a)
			w := r.start(func(c *Config, _ *Deps) { c.MaxPollRecords = most })
			r.applied(3)
			w.drain()
			assert.Equal(t, "B", r.store.trades[trade.Key{TradeID: "T", Version: 1}].BookID)
			assert.InDelta(t, 1, testutil.ToFloat64(w.metrics.duplicates), 0)
		})
	}
}

// Trades that trickle in are applied in few transactions; the first, which finds the lane idle, at once.
func TestFewRecordsWaitForOthers(t *testing.T) {
	t.Parallel()
	const pause = 200 * time.Millisecond
	r := newFixture(t, 1)
	w := r.start(func(c *Config, _ *Deps) { c.ApplyPause = pause })
	r.post("first", 1)
	r.applied(1)
	began := time.Now()
	for i := range 50 {
		r.post(fmt.Sprint("T", i), 1)
	}
	r.applied(51)
	starts := 2 + float64(time.Since(began)/pause) // that fit into the time it took, and the one before it
	var transactions dto.Metric
	require.NoError(t, w.metrics.batchRecords.Write(&transactions))
	w.drain()
	assert.LessOrEqual(t, float64(transactions.GetHistogram().GetSampleCount()), starts)
	r.reconcile()
}

func TestABacklogIsAppliedWithoutAPause(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 1)
	r.post("T", 100)
	w := r.start(func(c *Config, _ *Deps) { c.ApplyPause, c.MaxPollRecords = time.Hour, 10 })
	r.applied(100)
	w.drain()
	r.reconcile()
}

// Where a worker starts is what the store says, and the group's offset is what tools see afterwards.
func TestTheGroupOffsetIsAHintOnly(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 1)
	r.post("T", 10)
	first := r.start(nil)
	r.applied(10)
	r.reconcile()
	first.drain()
	admin := kadm.NewClient(r.producer)
	committed := func() int64 {
		offsets, err := admin.FetchOffsets(t.Context(), "workers")
		require.NoError(t, err)
		at, _ := offsets.Lookup(topic, 0)
		return at.At
	}
	require.Equal(t, int64(10), committed())

	var elsewhere kadm.Offsets
	elsewhere.AddOffset(topic, 0, 3, -1)
	require.NoError(t, admin.CommitAllOffsets(t.Context(), "workers", elsewhere))
	applies := r.store.count("Apply")
	second := r.start(nil)
	r.post("U", 1)
	r.applied(11)
	r.reconcile()
	second.drain()
	assert.Equal(t, applies+1, r.store.count("Apply"), "nothing was read again")
	assert.Equal(t, int64(11), committed())
	assert.Zero(t, testutil.ToFloat64(second.metrics.fenced))
}

func TestAFailedCommitOfTheGroupOffsetIsOnlyCounted(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 1)
	r.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Count: -1, Err: kerr.GroupAuthorizationFailed})
	w := r.start(nil)
	r.post("T", 10)
	r.applied(10)
	r.reconcile()
	r.eventually("counted", func() bool { return testutil.ToFloat64(w.metrics.commitErrors) > 0 })
	require.NoError(t, w.Ready())
	w.drain()
}

// Control records of transactions take offsets; the position goes over them. Records of transactions that were aborted
// count like any other (rule E7).
func TestALogWithHoles(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 1)
	txn, err := kgo.NewClient(kgo.SeedBrokers(r.cluster.ListenAddrs()...), kgo.TransactionalID("t"),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	defer txn.Close()
	write := func(book string, end kgo.TransactionEndTry) {
		q := r.request("T", 1, book)
		require.NoError(t, txn.BeginTransaction())
		require.NoError(t, txn.ProduceSync(t.Context(), kafka.Encode(topic, &q)).FirstErr())
		require.NoError(t, txn.EndTransaction(t.Context(), end))
	}
	for i := range 5 { // each leaves a marker behind its record
		write(fmt.Sprintf("committed-%d", i), kgo.TryCommit)
		write("aborted", kgo.TryAbort)
	}
	q := r.request("T", 2, "last")
	r.send(q)
	w := r.start(func(c *Config, _ *Deps) { c.MaxPollRecords = 2 })
	r.applied(21)
	w.drain()
	assert.Equal(t, "aborted", r.store.trades[trade.Key{TradeID: "T", Version: 1}].BookID)
	assert.Equal(t, "last", r.store.trades[trade.Key{TradeID: "T", Version: 2}].BookID)
	assert.Len(t, r.store.decided, 11)
}

// A record in a partition that is not the one of its trade would have two writers.
func TestARecordInTheWrongPartitionIsADeadLetter(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 2)
	q := r.request("T", 1, "B")
	q.Partition = 1 - q.Partition
	rec := kafka.Encode(topic, &q)
	r.raw(rec)
	w := r.start(nil)
	r.applied(1)
	w.drain()
	require.Len(t, r.store.dead, 1)
	assert.Contains(t, r.store.dead[0].Fault, "its trade belongs to partition")
	assert.Equal(t, rec.Value, r.store.dead[0].Value)
}

// Another worker that moves the positions under our feet is noticed, and nothing is applied twice.
func TestAStaleWorkerChangesNothing(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 1)
	var other atomic.Bool
	r.store.failing(func(call string, n int, after bool, b *trade.Batch) error {
		if call == "Apply" && !after && other.CompareAndSwap(false, true) {
			// Another worker applies the same batch, and more than we polled, while we are about to.
			r.store.mu.Lock()
			defer r.store.mu.Unlock()
			r.store.positions[0].NextOffset = 25
		}
		return nil
	})
	r.post("T", 30)
	w := r.start(func(c *Config, _ *Deps) { c.MaxPollRecords = 10 })
	r.applied(30)
	w.drain()
	assert.Len(t, r.store.trades, 5, "only what the other worker had not applied")
	assert.InDelta(t, 1, testutil.ToFloat64(w.metrics.fenced), 0)
}

// Workers come and go while records flow; every request is applied once, in order per trade.
func TestWorkersShareThePartitionsAndNothingIsDoubled(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 6)
	first := r.start(func(c *Config, _ *Deps) { c.Lanes, c.MaxPollRecords = 2, 5 })
	stop := make(chan struct{})
	sent := make(chan []trade.Request)
	go func() {
		var all []trade.Request
		defer func() { sent <- all }()
		for version := int32(1); ; version++ {
			for i := range 40 {
				q := r.request(fmt.Sprintf("T-%d", i), version, fmt.Sprintf("B%d", version))
				all = append(all, q)
				if err := r.producer.ProduceSync(context.Background(), kafka.Encode(topic, &q)).FirstErr(); err != nil {
					t.Error(err)
					return
				}
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	r.applied(50)
	second := r.start(func(c *Config, _ *Deps) { c.MaxPollRecords = 5 })
	r.eventually("the second has partitions", func() bool {
		return len(second.assigned()) > 0 && len(first.assigned()) < 6
	})
	third := r.start(nil)
	r.eventually("the third has partitions", func() bool { return len(third.assigned()) > 0 })
	second.drain()
	r.eventually("all partitions are held", func() bool { return len(first.assigned())+len(third.assigned()) == 6 })
	close(stop)
	r.sent = <-sent
	r.applied(len(r.sent))
	r.reconcile()
	first.drain()
	third.drain()
}

// unreachable is a store that one of several workers can't reach while down is true.
type unreachable struct {
	TradeStore
	down atomic.Bool
}

func (u *unreachable) Apply(ctx context.Context, b *trade.Batch) (trade.Applied, error) {
	if u.down.Load() {
		return trade.Applied{}, fmt.Errorf("no route to host")
	}
	return u.TradeStore.Apply(ctx, b)
}

// A worker that waits for the store with a batch in hand gives it up when the group wants to rebalance.
func TestAStuckWorkerDoesNotHoldUpTheGroup(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 2)
	cut := &unreachable{TradeStore: r.store}
	cut.down.Store(true)
	stuck := r.start(func(_ *Config, d *Deps) { d.Store = cut })
	r.post("T", 20)
	r.eventually("stuck", func() bool { return stuck.Ready() != nil && len(stuck.assigned()) == 2 })
	other := r.start(nil)
	r.eventually("the other has a partition", func() bool { return len(other.assigned()) == 1 })
	r.eventually("and applies it", func() bool { return r.store.next() > 0 })
	cut.down.Store(false)
	r.applied(20)
	r.reconcile()
	stuck.drain()
	other.drain()
}

// A drain gives up a batch that the store does not take, leaves the group, and ends well.
func TestADrainDropsWhatItCanNotFinish(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 1)
	r.store.failing(func(call string, _ int, _ bool, _ *trade.Batch) error {
		if call == "Apply" || call == "Unprojected" {
			return fmt.Errorf("connection refused")
		}
		return nil
	})
	r.post("T", 5)
	w := r.start(func(c *Config, _ *Deps) { c.DrainLimit = 100 * time.Millisecond })
	r.eventually("trying", func() bool { return r.store.count("Apply") > 3 })
	w.drain()
	require.Empty(t, r.store.trades)
	info := r.cluster.GroupInfo("workers")
	require.NotNil(t, info)
	assert.Empty(t, info.Members, "the group was left")
}

// A rebalance waits for its slowest member, for a minute if that one is dead. A drain does not.
func TestADrainDoesNotWaitForTheGroup(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 2)
	joining, over := make(chan struct{}), make(chan struct{})
	r.cluster.ControlKey(int16(kmsg.JoinGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
		close(joining)
		r.cluster.SleepControl(func() { <-over })
		return nil, nil, false
	})
	t.Cleanup(func() { close(over) })
	w := r.start(func(c *Config, _ *Deps) { c.DrainLimit = 50 * time.Millisecond })
	<-joining
	w.drain()
}

func TestADrainBeforeTheStartIsDoneEndsWell(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 1)
	r.store.failing(func(string, int, bool, *trade.Batch) error { return fmt.Errorf("connection refused") })
	w := r.start(nil)
	r.eventually("waiting", func() bool { return r.store.count("MakeDays") > 3 })
	require.ErrorContains(t, w.Ready(), "connection refused")
	w.drain()
}

func TestTroubleWithTheGroupIsGotOver(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 1)
	r.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, Count: 2, Err: kerr.GroupAuthorizationFailed})
	r.post("T", 5)
	w := r.start(nil)
	r.eventually("not ready", func() bool {
		return w.Ready() != nil && testutil.ToFloat64(w.metrics.retries.WithLabelValues("group")) > 0
	})
	r.applied(5)
	r.eventually("ready again", func() bool { return w.Ready() == nil })
	w.drain()
}

// An error of a fetch that the client does not get over by itself costs a new client, no record.
func TestTroubleWithFetchesIsGotOver(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 1)
	r.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Count: 1, Err: kerr.TopicAuthorizationFailed})
	r.post("T", 5)
	w := r.start(nil)
	r.applied(5)
	assert.Positive(t, testutil.ToFloat64(w.metrics.retries.WithLabelValues("client")))
	r.eventually("ready again", func() bool { return w.Ready() == nil })
	w.drain()
}
