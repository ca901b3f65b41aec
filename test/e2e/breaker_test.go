package e2e

import (
	"context"
	"math"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/kafka"
	"tradestore/test/stack"
	"tradestore/test/stack/services"
	"tradestore/trade"
)

const (
	lostPartition  = 0  // the only one on the second broker
	partitionCount = 12 // of the topic, by default
	logUnavailable = trade.Code("LOG_UNAVAILABLE")
)

// One partition of twelve has no leader: its trades are refused before PENDING, all others are accepted as before. Then
// the whole of Kafka is gone: few requests are left PENDING. Afterwards all trades are accepted again.
func TestTheLogTakesNoRecords(t *testing.T) {
	stack.OnlyLong(t)
	t.Parallel()
	small := func(cfg *services.KafkaConfig) { cfg.HeapMiB = 256 }
	first := stack.ApacheKafka(t, small)
	s := newRoles(t, stores{kafka: first.Addrs(), database: stack.Database(t), env: handOver}, 1, 1)
	s.env = append(s.env, soonLost...)
	s.start(t) // the group's own topic is on the first broker, because there is no other
	second := stack.ApacheKafka(t, small, func(cfg *services.KafkaConfig) { cfg.Join = first })
	s.movePartition(t, lostPartition, 2)
	stop := s.pacing(t, 100)

	s.accepted(t, 300)
	lost := time.Now()
	second.Kill()
	s.refusedByLog(t, 1)
	refused := time.Now()
	s.refusedByLog(t, 30)
	s.othersKeptTheirRate(t, lost, refused, time.Now())

	before, opened := len(s.ledger.Posts()), s.opened(t)
	first.Kill()
	s.refusedByLog(t, 300)
	sent := len(s.ledger.Posts()) - before
	opened = s.opened(t) - opened
	t.Logf("all of Kafka was gone: %d posts were sent, %d opened", sent, opened)
	assert.Less(t, opened, sent/2, "requests are opened that can't be delivered")
	var restarted sync.WaitGroup
	for _, broker := range []*services.Kafka{first, second} {
		restarted.Go(func() { assert.NoError(t, broker.Restart(t.Context())) })
	}
	restarted.Wait()
	s.acceptedAgain(t)
	stop()
	s.check(t)
	s.stop(t)
}

// Kafka is gone for ten minutes at a thousand posts a second: fewer than a thousand requests are left PENDING, and each
// has ended when the outage has been over for three minutes (I5).
func TestALongOutageOfKafkaLeavesFewOrphans(t *testing.T) {
	stack.OnlyLong(t)
	broker := stack.ApacheKafka(t, func(cfg *services.KafkaConfig) { cfg.FullSpeed, cfg.HeapMiB = true, 1024 })
	s := newRoles(t, stores{kafka: broker.Addrs(), database: stack.Database(t), env: handOver}, 2, 2)
	s.start(t)
	stop := s.pacing(t, 1000)
	s.accepted(t, 10_000)
	opened := s.opened(t)
	accepted := s.ledger.Count()[http.StatusAccepted]
	broker.Kill()
	select {
	case <-time.After(outageLength):
	case <-t.Context().Done():
	}
	opened = s.opened(t) - opened - (s.ledger.Count()[http.StatusAccepted] - accepted)
	t.Logf("an outage of %v left %d requests PENDING; answers %v", outageLength, opened, s.ledger.Count())
	assert.Less(t, opened, 1000)
	require.NoError(t, broker.Restart(t.Context()))
	s.acceptedAgain(t)
	stop()
	s.orphansClosed(t)
	s.stop(t)
}

const outageLength = 10 * time.Minute

// pacing posts trades at a rate a second in the background, and returns a function that ends it.
func (s *deployment) pacing(t *testing.T, rate int) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var posting sync.WaitGroup
	posting.Go(func() { s.pace(ctx, t, rate, math.MaxInt) })
	stop = func() { cancel(); posting.Wait() }
	t.Cleanup(stop)
	return stop
}

// movePartition gives a partition to another broker, and waits until that one leads it.
func (s *deployment) movePartition(t *testing.T, partition, broker int32) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.Kafka...))
	require.NoError(t, err)
	defer client.Close()
	admin := kadm.NewClient(client)
	var request kadm.AlterPartitionAssignmentsReq
	request.Assign(s.Topic, partition, []int32{broker})
	moved, err := admin.AlterPartitionAssignments(t.Context(), request)
	require.NoError(t, err)
	require.NoError(t, moved.Error())
	require.True(t, poll(t, drainLimit, func() bool {
		topics, err := admin.ListTopics(t.Context(), s.Topic)
		return err == nil && topics[s.Topic].Partitions[partition].Leader == broker
	}), "partition %d stays where it is", partition)
}

// refusedByLog waits until n more posts than at the call have been refused because the log takes no records.
func (s *deployment) refusedByLog(t *testing.T, n int) {
	t.Helper()
	count := func() (n int) {
		for _, p := range s.ledger.Posts() {
			if p.Code == logUnavailable {
				n++
			}
		}
		return n
	}
	want := count() + n
	require.True(t, poll(t, drainLimit, func() bool { return count() >= want }),
		"trades are not refused: %v", s.ledger.Count())
}

// acceptedAgain waits until a trade of each partition is accepted.
func (s *deployment) acceptedAgain(t *testing.T) {
	t.Helper()
	began := len(s.ledger.Posts())
	require.True(t, poll(t, drainLimit, func() bool {
		accepted := map[int32]bool{}
		for _, p := range s.ledger.Posts()[began:] {
			if p.Verdict() == Accepted {
				accepted[partitionOf(p)] = true
			}
		}
		return len(accepted) == partitionCount
	}), "not every partition is accepted again: %v", s.ledger.Count())
}

// opened returns how many requests were opened so far.
func (s *deployment) opened(t *testing.T) (n int) {
	t.Helper()
	require.NoError(t, s.connect(t).QueryRow(t.Context(), "SELECT count(*) FROM requests").Scan(&n))
	return n
}

// othersKeptTheirRate compares what became of the posts from the loss of one partition to end, which was noticed at
// refused. The lost partition has a few probes, and no other notices anything.
func (s *deployment) othersKeptTheirRate(t *testing.T, lost, refused, end time.Time) {
	t.Helper()
	var others, taken, its, probes int
	for _, p := range s.ledger.Posts() {
		switch {
		case p.Sent.Before(lost), p.Answered.After(end):
		case partitionOf(p) != lostPartition:
			others++
			assert.NotEqual(t, logUnavailable, p.Code, "a trade of partition %d is refused", partitionOf(p))
			assert.NotEqual(t, trade.Code("QUEUE_FULL"), p.Code, "the lost partition fills the queue")
			if p.Verdict() == Accepted || p.Status == http.StatusBadRequest {
				taken++
			}
		case p.Sent.After(refused):
			its++
			if !p.RequestID.IsZero() {
				probes++
			}
		}
	}
	length := end.Sub(lost).Seconds()
	t.Logf("partition %d was lost for %.0f s: of the others' %d posts %d were taken, %.0f a second; its own %d posts had "+
		"%d probes", lostPartition, length, others, taken, float64(taken)/length, its, probes)
	assert.Greater(t, 10*taken, 9*others, "the others don't keep their rate")
	assert.Less(t, 4*probes, its, "a partition without a leader still opens requests")
}

func partitionOf(p *Post) int32 { return kafka.Partition(p.Trade.TradeID, partitionCount) }
