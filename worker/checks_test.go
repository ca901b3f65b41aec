package worker

import (
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tradestore/internal/checks"
	"tradestore/kafka"
	"tradestore/trade"
)

// Whatever a worker finds wrong with the topic or the positions stops it before it changes a row (rules T1, T2, T5,
// T9). What it does not find by itself, the checks of its role find.
func TestAFailedCheckStopsLoudlyAtTheStart(t *testing.T) {
	t.Parallel()
	f := func(name string, spoil func(*fixture), want ...string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newFixture(t, 3)
			r.post("T", 10)
			spoil(r)
			w := r.start(nil)
			err := w.stopped()
			for _, text := range want {
				require.ErrorContains(t, err, text)
			}
			require.ErrorIs(t, err, checks.ErrWrong)
			require.Zero(t, r.store.count("Apply"))
		})
	}
	f("topic made again", func(r *fixture) { r.recreate(); r.postAgain("U", 10) }, "expected with id", "seen: ")
	f("no positions", func(r *fixture) { r.store.positions = nil },
		"positions of 3 partitions expected in the store, seen: 0")
	f("one position too many", func(r *fixture) { r.store.positions = newFake(t, r.id, 4).positions }, "seen: 4")
	f("positions of two generations", func(r *fixture) { r.store.positions[2].Generation = 2 },
		"generation 1 expected in the store, seen: partition 2", "generation 2")
	f("a position missing", func(r *fixture) { r.store.positions[1].Partition = 2 }, "position of partition 1 of topic")
}

// A leader that a failover shows for a moment may not have the position of a partition. The worker asks again, and
// applies nothing meanwhile: that it lasts is for the checks of its role to say (rules T5, T8).
func TestAPositionOutsideTheLogIsAskedForAgain(t *testing.T) {
	t.Parallel()
	f := func(name string, spoil func(p *trade.Position), says string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newFixture(t, 3)
			r.post("T", 10)
			right := slices.Clone(r.store.positions)
			for p := range r.store.positions {
				spoil(&r.store.positions[p])
			}
			w := r.start(nil)
			retries := w.metrics.retries.WithLabelValues("client")
			r.eventually("seen twice", func() bool { return testutil.ToFloat64(retries) >= 2 })
			r.eventually("said", func() bool { err := w.Ready(); return err != nil && strings.Contains(err.Error(), says) })
			require.Zero(t, r.store.count("Apply"))
			r.store.mu.Lock()
			r.store.positions = right
			r.store.mu.Unlock()
			r.applied(10)
			w.drain()
		})
	}
	f("behind the end", func(p *trade.Position) { p.NextOffset = 1000 }, "outside the log")
	f("log cut and written again",
		func(p *trade.Position) { p.NextOffset, p.LeaderEpoch = 100, 0 }, "partition")
}

// recreate deletes the topic and creates it again.
func (r *fixture) recreate() {
	r.t.Helper()
	require.NoError(r.t, r.cluster.DeleteTopic(topic))
	_, err := kafka.CreateTopic(r.t.Context(), r.kafka("again"), kafka.TopicSpec{Partitions: r.parts})
	require.NoError(r.t, err)
}

// postAgain posts to a topic that was created again, which the old producer does not find.
func (r *fixture) postAgain(prefix string, n int) {
	r.t.Helper()
	old := r.producer
	defer func() { r.producer = old }()
	var err error
	r.producer, err = kafka.NewProducer(r.kafka("again"), prometheus.NewRegistry(), zerolog.Nop())
	require.NoError(r.t, err)
	defer r.producer.Close()
	r.post(prefix, n)
}

func TestATopicMadeAgainStopsARunningWorker(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 3)
	w := r.start(nil)
	r.post("T", 10)
	r.applied(10)
	r.recreate()
	require.ErrorIs(t, w.stopped(), checks.ErrWrong)
	require.Equal(t, int64(10), r.store.next())
}

func TestAGenerationThatMovesStopsARunningWorker(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 3)
	w := r.start(nil)
	r.post("T", 10)
	r.applied(10)
	r.store.mu.Lock()
	for p := range r.store.positions {
		r.store.positions[p].Generation = 2
	}
	r.store.mu.Unlock()
	r.store.failing(func(call string, _ int, after bool, _ *trade.Batch) error {
		if call == "Apply" && !after {
			return trade.Classed(trade.Fenced, "no row of generation 1")
		}
		return nil
	})
	r.post("U", 10)
	require.ErrorContains(t, w.wait(), "generation 1 expected")
}

// A check that can't be made is counted, and stops nothing (rule T8).
func TestACheckThatCanNotBeMadeIsCounted(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 1)
	w := r.start(nil)
	r.post("T", 1)
	r.applied(1)
	keys := []kmsg.Key{kmsg.Metadata, kmsg.ListOffsets}
	fault := r.cluster.Fault(kfake.Fault{Keys: keys, Count: -1, Err: kerr.TopicAuthorizationFailed})
	r.eventually("counted", func() bool { return testutil.ToFloat64(w.metrics.retries.WithLabelValues("check")) > 1 })
	fault.Remove()
	require.NoError(t, w.Ready())
	r.post("U", 1)
	r.applied(2)
	w.drain()
}

// A release that came after this one may write another format. Its records are good, so the worker stops for them and
// makes no dead letters of them.
func TestARecordOfAnotherFormatStopsTheWorker(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 1)
	w := r.start(nil)
	r.post("T", 10)
	r.applied(10)
	q := r.request("NEXT", 1, "B")
	rec := kafka.Encode(topic, &q)
	for i := range rec.Headers {
		if rec.Headers[i].Key == kafka.HeaderSchema {
			rec.Headers[i].Value = []byte("2")
		}
	}
	r.raw(rec)
	err := w.stopped()
	require.ErrorContains(t, err, "offset 10 of partition 0: its format has version 2, this build reads up to version 1")
	require.Equal(t, trade.Broken, trade.ClassOf(err))
	require.Equal(t, int64(10), r.store.next())
	require.Len(t, r.store.trades, 10)
	require.ErrorContains(t, r.start(nil).stopped(), "its format has version 2", "and again at the next start")
}
