package server

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/kafka"
	"tradestore/trade"
)

const (
	breakerDeadline = 8 * time.Second
	breakerShare    = 3 // posts of a partition that is stalled
)

// breakerTest is a queue of one share and two partitions.
type breakerTest struct {
	*queue
	t *testing.T
}

func newBreakerTest(t *testing.T) *breakerTest {
	cfg := &Config{AcceptDeadline: breakerDeadline, Flushes: 1, MaxBatch: 100, Partitions: 2, QueueBytes: 1 << 20,
		QueueItems: 2 * breakerShare}
	return &breakerTest{newQueue(cfg, verified, newMetrics()), t}
}

// post admits a post of a partition; ok is false if its partition takes none.
func (b *breakerTest) post(partition int32) (post *pendingPost, ok bool) {
	b.t.Helper()
	post = &pendingPost{req: trade.Request{Partition: partition}, arrived: time.Now(), answer: make(chan answer, 1)}
	_, shed := b.admit(post)
	require.Nil(b.t, shed)
	if len(post.answer) == 0 {
		return post, true
	}
	require.Equal(b.t, LogUnavailable, (<-post.answer).code)
	return post, false
}

// produce admits a post and hands it to the producer.
func (b *breakerTest) produce(partition int32) *pendingPost {
	b.t.Helper()
	post, ok := b.post(partition)
	require.True(b.t, ok)
	b.taken(post)
	b.handOver(post)
	return post
}

// taken demands that the flush gets these posts next, and no others.
func (b *breakerTest) taken(want ...*pendingPost) {
	b.t.Helper()
	batch, refused := b.take(&b.shares[0], time.Now())
	require.Equal(b.t, append([]*pendingPost{}, want...), append([]*pendingPost{}, batch...))
	require.Empty(b.t, refused)
}

func (b *breakerTest) shows(partition int, shut float64) {
	b.t.Helper()
	counted(b.t, shut, b.m.partitionShut.WithLabelValues(fmt.Sprint(partition)))
}

// probeNow lets the next post of each partition pass as a probe, if the partition is shut.
func (a *api) probeNow() {
	a.srv.queue.mu.Lock()
	defer a.srv.queue.mu.Unlock()
	for p := range a.srv.queue.breakers {
		a.srv.queue.breakers[p].probeAt = time.Now()
	}
}

// While a leader moves, posts of its partition wait in their order, and those of the others pass.
func TestAStalledPartitionHoldsItsPosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreakerTest(t)
		oldest := b.produce(0)
		time.Sleep(breakerDeadline / 8)
		first, _ := b.post(0)
		other, _ := b.post(1)
		b.taken(other)
		second, ok := b.post(0)
		require.True(t, ok)
		b.taken()
		_, ok = b.post(0)
		assert.False(t, ok, "the partition holds more than its share of the queue")
		assert.Equal(t, 2, b.snapshot().waiting)
		b.release(oldest, "")
		third, _ := b.post(0)
		b.taken(first, second, third)
		b.shows(0, 0)
		for range breakerShare - 1 { // of a partition that passes, as many as the queue has room for
			_, ok = b.post(1)
			assert.True(t, ok)
		}
	})
}

// A partition whose oldest record is older than the deadline takes no post, until one record is acknowledged.
func TestAShutPartitionRefusesUntilAProbeIsAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreakerTest(t)
		refuses := func() {
			t.Helper()
			_, ok := b.post(0)
			assert.False(t, ok)
			b.shows(0, 1)
		}
		oldest, newer := b.produce(0), b.produce(0)
		time.Sleep(breakerDeadline / 8)
		waiting, _ := b.post(0)
		b.taken()
		time.Sleep(breakerDeadline)
		refuses()
		batch, refused := b.take(&b.shares[0], time.Now())
		assert.Empty(t, batch)
		assert.Equal(t, []*pendingPost{waiting}, refused, "who has waited is refused as well")
		b.release(waiting, LogUnavailable)
		b.release(oldest, DeliveryUnknown)
		time.Sleep(2 * minProbePause)
		refuses() // the producer still tries to deliver newer: no probe is needed
		b.release(newer, DeliveryUnknown)

		for pause := minProbePause; pause < 2*maxProbePause; pause = 2 * pause {
			time.Sleep(min(pause, maxProbePause)/2 - 1)
			refuses()
			time.Sleep(min(pause, maxProbePause)/2 + 1)
			probe := b.produce(0)
			refuses() // one at a time
			b.release(probe, DeliveryUnknown)
		}
		time.Sleep(maxProbePause)
		stale, ok := b.post(0)
		require.True(t, ok)
		b.taken(stale)
		b.release(stale, trade.StaleVersion)
		b.release(b.produce(0), "") // the one before told nothing about the log
		b.shows(0, 0)
		b.release(b.produce(0), "")
		assert.Equal(t, queueLoad{}, b.snapshot())
	})
}

// A record that is acknowledged late opens the partition, unless another one has waited for as long.
func TestALateAcknowledgementOpensAPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreakerTest(t)
		first, second, other := b.produce(0), b.produce(0), b.produce(1)
		time.Sleep(breakerDeadline)
		_, ok := b.post(0)
		require.False(t, ok)
		_, ok = b.post(1)
		require.False(t, ok)
		b.release(second, "") // out of order: it never happens, and does no harm
		b.shows(0, 1)
		b.release(first, "")
		b.shows(0, 0)
		b.shows(1, 1)
		b.release(other, DeliveryUnknown)
		time.Sleep(minProbePause / 8)
		_, ok = b.post(1)
		require.False(t, ok)
		b.breakers[0].close(time.Now())
		time.Sleep(minProbePause)
		b.release(b.produce(0), "")
		_, ok = b.post(1)
		assert.True(t, ok, "what opened one partition may have opened the others")
	})
}

// A drain does not wait for a partition that is stalled.
func TestADrainRefusesWhatIsHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreakerTest(t)
		b.produce(0)
		time.Sleep(breakerDeadline / 8)
		held, _ := b.post(0)
		b.taken()
		b.close()
		_, refused := b.next(0)
		assert.Equal(t, []*pendingPost{held}, refused)
		batch, refused := b.next(0)
		assert.Empty(t, append(batch, refused...))
	})
}

// Of a bulk request only the trades of the partition are refused, and no trade of it after one that was.
func TestABulkRequestLosesOnlyTheTradesOfAShutPartition(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	shutPartition := kafka.Partition("T0", testPartitions)
	a.srv.queue.mu.Lock()
	a.srv.queue.breakers[shutPartition].close(time.Now())
	a.srv.queue.breakers[shutPartition].probeAt = time.Now().Add(time.Hour)
	a.srv.queue.mu.Unlock()
	a.post(tradeJSON("T0", 1)).noEffect(t, LogUnavailable)
	_, opens := a.stores.calls()
	assert.Zero(t, opens, "refused before PENDING")

	bulk := func() (items []any) {
		var docs []string
		for i := range 12 {
			docs = append(docs, tradeJSON(fmt.Sprint("T", i), 1))
		}
		r := a.send("POST", bulkPath, "["+strings.Join(docs, ",")+"]", jsonType)
		require.Equal(t, http.StatusMultiStatus, r.status, r.body)
		return r.fields(t)["items"].([]any)
	}
	outcomes := map[bool]int{}
	for i, item := range bulk() {
		m := item.(map[string]any)
		shut := kafka.Partition(fmt.Sprint("T", i), testPartitions) == shutPartition
		outcomes[shut]++
		if !shut {
			assert.InDelta(t, http.StatusAccepted, m["status"], 0)
			continue
		}
		assert.InDelta(t, http.StatusServiceUnavailable, m["status"], 0)
		assert.NotNil(t, m["retry_after"])
		assert.Equal(t, string(LogUnavailable), m["problem"].(map[string]any)["code"])
		assert.NotContains(t, m["problem"], "request_id")
	}
	require.Greater(t, outcomes[true], 1, "more than one trade of the partition")
	require.NotZero(t, outcomes[false])
	counted(t, float64(1+outcomes[true]), a.srv.m.shed[shedPartition])

	a.probeNow()
	assert.InDelta(t, http.StatusAccepted, bulk()[0].(map[string]any)["status"], 0, "the first one is the probe")
	bulk()
	a.post(tradeJSON("T0", 1)).accepted(t)
}

// A post that is held back when its partition is shut gets its refusal from a flush.
func TestAPostThatWasHeldBackIsRefused(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	b := &a.srv.queue.breakers[kafka.Partition("T0", testPartitions)]
	a.srv.queue.mu.Lock()
	b.unacked = []*pendingPost{{handedOver: time.Now().Add(-b.deadline / 2)}}
	a.srv.queue.mu.Unlock()
	held := make(chan reply)
	go func() { held <- a.post(tradeJSON("T0", 1)) }()
	eventually(t, func() bool {
		a.srv.queue.mu.Lock()
		defer a.srv.queue.mu.Unlock()
		return len(b.parked) == 1
	})
	a.srv.queue.mu.Lock()
	b.close(time.Now())
	a.srv.queue.mu.Unlock()
	a.post(tradeJSON("T0", 1)).noEffect(t, LogUnavailable)
	(<-held).noEffect(t, LogUnavailable)
	eventually(t, func() bool { return a.srv.queue.snapshot() == queueLoad{} })
}
