package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/test/stack"
	"tradestore/trade"
)

var nextTopicID = trade.TopicID{9, 9}

func lockTopics(t *testing.T, d *testDatabase) *Topics {
	t.Helper()
	topics, err := LockTopics(t.Context(), d.reads)
	require.NoError(t, err)
	t.Cleanup(topics.Release)
	return topics
}

// follow moves to a topic of six partitions.
func (d *testDatabase) follow(t *testing.T) (old Generation) {
	t.Helper()
	topics, err := LockTopics(t.Context(), d.reads)
	require.NoError(t, err)
	defer topics.Release()
	old, err = topics.Newest(t.Context())
	require.NoError(t, err)
	require.NoError(t, topics.Follow(t.Context(), old, "trades-2", nextTopicID, 6))
	return old
}

func TestOneProcessAtATimeMayChangeTopics(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	first, err := LockTopics(t.Context(), d.reads)
	require.NoError(t, err)
	_, err = LockTopics(t.Context(), d.reads)
	require.ErrorContains(t, err, "another 'tradestore migrate' runs")
	first.Release()
	second := lockTopics(t, d)

	// With its session a process has lost the right, and can't change anything any more.
	d.exec(t, `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
	require.Eventually(t, func() bool {
		third, err := LockTopics(t.Context(), d.reads)
		if err == nil {
			third.Release()
		}
		return err == nil
	}, time.Minute, 10*time.Millisecond)
	_, err = second.Newest(t.Context())
	require.Error(t, err)
	require.Error(t, second.Follow(t.Context(), Generation{Number: 1}, "trades-2", nextTopicID, 6))
	require.Equal(t, 1, d.count(t, "SELECT max(generation) FROM ingest_offsets"))
}

func TestATopicFollowsAnother(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	topics := lockTopics(t, d)
	old, err := topics.Newest(t.Context())
	require.NoError(t, err)
	require.Equal(t, Generation{1, testTopic, testTopicID, old.Positions}, old)
	require.Len(t, old.Positions, testPartitions)

	require.NoError(t, topics.Follow(t.Context(), old, "trades-2", nextTopicID, 6))
	now, err := topics.Newest(t.Context())
	require.NoError(t, err)
	require.Equal(t, "trades-2", now.Topic)
	require.EqualValues(t, 2, now.Number)
	require.Equal(t, trade.Position{TopicID: nextTopicID, Generation: 2, Partition: 5, LeaderEpoch: -1}, now.Positions[5])
	require.Equal(t, 6, d.count(t, "SELECT count(*) FROM projection_cursor WHERE generation = 2"))
	require.Equal(t, testPartitions, d.count(t, "SELECT count(*) FROM ingest_offsets WHERE closed AND generation = 1"))

	require.NoError(t, topics.Add(t.Context(), "trades-2", nextTopicID, 6), "a plain migrate finds it made")
	require.ErrorContains(t, topics.Add(t.Context(), testTopic, testTopicID, testPartitions), `follows topic "trades-2"`)
	follow := func(from Generation, topic string, id trade.TopicID) error {
		return topics.Follow(t.Context(), from, topic, id, 6)
	}
	thirdID := trade.TopicID{3}
	require.ErrorContains(t, follow(old, "trades-3", thirdID), "are where they were", "a generation is followed once")
	require.ErrorContains(t, follow(now, testTopic, thirdID), "it is the topic of generation 1")
	require.ErrorContains(t, follow(now, "trades-3", testTopicID), "it is the topic of generation 1")
	require.NoError(t, follow(now, "trades-3", thirdID))
}

func TestATopicDoesNotFollowOneThatIsNotWorkedThrough(t *testing.T) {
	t.Parallel()
	f := func(name string, class trade.Class, want string, spoil func(t *testing.T, l *topicLog, old *Generation)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			l := newTopicLog(t)
			l.open(NewRequestStore(l.db.reads), "T1", 1, "a")
			l.apply()
			topics := lockTopics(t, l.db)
			old, err := topics.Newest(t.Context())
			require.NoError(t, err)
			require.ErrorContains(t, topics.Projected(t.Context()), "are projected up to offset 0")
			l.projectAll()
			require.NoError(t, topics.Projected(t.Context()))
			spoil(t, l, &old)
			err = topics.Follow(t.Context(), old, "trades-2", nextTopicID, 6)
			if want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, want)
			require.Equal(t, class, trade.ClassOf(err))
			newest := l.db.count(t, "SELECT max(generation) FROM ingest_offsets WHERE NOT closed")
			require.Equal(t, 1, newest, "nothing was changed")
			_, err = topics.Newest(t.Context())
			require.NoError(t, err, "the session goes on")
		})
	}
	f("nothing wrong", 0, "", func(*testing.T, *topicLog, *Generation) {})
	f("a position moved", trade.Fenced, "of 4 positions of generation 1, 3 are where they were",
		func(_ *testing.T, l *topicLog, _ *Generation) {
			l.open(NewRequestStore(l.db.reads), "T1", 2, "b")
			l.apply()
		})
	f("an outcome not projected", trade.Fenced, "are projected up to offset 0, there is one at 0",
		func(t *testing.T, l *topicLog, _ *Generation) {
			l.db.exec(t, "UPDATE projection_cursor SET projected_offset = 0")
		})
	f("made again", trade.Fenced, "0 are where they were",
		func(_ *testing.T, _ *topicLog, old *Generation) { old.ID[0]++ })
}

// A worker of the generation before that wakes up changes nothing, and stops when it asks where it stands.
func TestAWorkerOfTheGenerationBeforeIsFenced(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	requests := NewRequestStore(l.db.reads)
	l.open(requests, "T1", 2, "a")
	l.apply()
	l.projectAll()
	orphan := l.orphan(requests, "T2", time.Hour)
	positions, err := l.store.Positions(t.Context())
	require.NoError(t, err)
	l.db.follow(t)

	late := trade.Batch{
		TopicID: testTopicID, Generation: 1,
		Spans: []trade.Span{{Partition: 0, From: positions[0].NextOffset, Next: positions[0].NextOffset + 1, LeaderEpoch: 1}},
	}
	_, err = l.store.Apply(t.Context(), &late)
	require.Equal(t, trade.Fenced, trade.ClassOf(err), err)
	orphans := []trade.PendingRequest{orphan}
	_, err = l.store.Close(t.Context(), testTopicID, orphan.Partition, positions[orphan.Partition].NextOffset, orphans)
	require.Equal(t, trade.Broken, trade.ClassOf(err), err)
	_, err = l.store.Positions(t.Context())
	require.Equal(t, trade.Broken, trade.ClassOf(err), err)
	require.ErrorContains(t, err, `which follows topic "trades-2" in generation 2`)

	next := NewStore(l.db.writer, StoreConfig{Topic: "trades-2"})
	closed, err := next.Close(t.Context(), nextTopicID, orphan.Partition, 0, orphans)
	require.NoError(t, err, "the new generation closes what is left of the old one")
	require.EqualValues(t, 2, closed[0].Generation)
}

// A record of the new generation replaces a row of the one before, although its offset is lower, and its outcome is
// projected behind a cursor of its own.
func TestOffsetsStartOverWithAGeneration(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	requests := NewRequestStore(l.db.reads)
	for range 3 {
		l.open(requests, "T1", 7, "old")
	}
	last := l.open(requests, "T1", 7, "old")
	l.apply()
	all := []int32{0, 1, 2, 3, 4, 5}
	outcomes, err := l.store.Unprojected(t.Context(), all, 10)
	require.NoError(t, err)
	require.NoError(t, l.store.Projected(t.Context(), outcomes))
	l.db.follow(t)

	next := NewStore(l.db.writer, StoreConfig{Topic: "trades-2"})
	positions, err := next.Positions(t.Context())
	require.NoError(t, err)
	r := last.Request
	r.ID, r.Trade.BookID, r.Partition = trade.NewRequestID(testNow), "new", 5
	batch := trade.Batch{
		TopicID: nextTopicID, Generation: positions[5].Generation,
		Spans:   []trade.Span{{Partition: 5, From: 0, Next: 2, LeaderEpoch: 0}},
		Records: []trade.Record{{Request: r}, {Request: last.Request, Offset: 1}}, // and a copy of a decided one
	}
	batch.Records[1].Partition = 5
	applied, err := next.Apply(t.Context(), &batch)
	require.NoError(t, err)
	require.Equal(t, 1, applied.Rows)
	require.Equal(t, 1, applied.Duplicates)
	require.Equal(t, "new", l.db.trades(t)[trade.Key{TradeID: "T1", Version: 7}].BookID)

	outcomes, err = next.Unprojected(t.Context(), all, 10)
	require.NoError(t, err)
	require.Len(t, outcomes, 1)
	require.Equal(t, [2]int64{2, 0}, [2]int64{int64(outcomes[0].Generation), outcomes[0].Offset})
	topics := lockTopics(t, l.db)
	require.Error(t, topics.Projected(t.Context()))
	require.NoError(t, next.Projected(t.Context(), outcomes))
	require.NoError(t, topics.Projected(t.Context()))
}

func TestUndecidedFindsEveryRequestWithoutAnOutcome(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	require.NoError(t, NewMaintainer(l.db.reads).MakeDays(t.Context(), testNow))
	requests := NewRequestStore(l.db.reads)
	want := func(limit int, want ...trade.PendingRequest) {
		t.Helper()
		got, err := requests.Undecided(t.Context(), limit)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	want(10)
	l.open(requests, "T1", 1, "decided")
	l.apply()
	stray := l.orphan(requests, "T2", 50*oneDay) // of a day without a partition
	ahead := l.orphan(requests, "T3", -50*oneDay)
	want(10, stray, ahead)
	want(1, stray)
	l.db.exec(t, "INSERT INTO orphan_marks SELECT DISTINCT partition, $1::timestamptz FROM ingest_offsets", testNow)
	want(10, stray, ahead)
	for _, p := range []trade.PendingRequest{stray, ahead} {
		_, err := l.store.CloseUnproven(t.Context(), l.topic, p.Partition, l.next[p.Partition], []trade.PendingRequest{p})
		require.NoError(t, err)
	}
	want(10)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := requests.Undecided(ctx, 10)
	require.ErrorContains(t, err, "cannot list undecided requests")
}

func TestNoGenerationToFollow(t *testing.T) {
	t.Parallel()
	url := stack.Database(t)
	require.NoError(t, Migrate(t.Context(), url))
	topics, err := LockTopics(t.Context(), openPool(t, url, "reads", Open))
	require.NoError(t, err)
	defer topics.Release()
	_, err = topics.Newest(t.Context())
	require.Equal(t, trade.Broken, trade.ClassOf(err))
	require.ErrorContains(t, err, "run tradestore migrate")
}
