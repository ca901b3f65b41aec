package postgres

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

var allPartitions = []int32{0, 1, 2, 3}

func TestUnprojectedCarriesTheOutcome(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	stored := l.add("T1", 2, "stored")
	stale := l.add("T1", 1, "stale")
	l.apply()

	got, err := l.store.Unprojected(t.Context(), allPartitions, 10)
	require.NoError(t, err)
	decided := testNow.Add(1e9)
	require.Equal(t, []trade.Decision{{
		RequestState: trade.RequestState{ID: stored.ID, Status: trade.Success, TradeID: "T1", Version: 2,
			AcceptedAt: stored.AcceptedAt, DecidedAt: decided},
		Generation: 1, Partition: stored.Partition, Offset: 0, CorrelationID: "call-1",
	}, {
		RequestState: trade.RequestState{ID: stale.ID, Status: trade.Failed, TradeID: "T1", Version: 1,
			Reason: trade.StaleVersion, Detail: trade.StaleDetail(1, 2), AcceptedAt: stale.AcceptedAt, DecidedAt: decided},
		Generation: 1, Partition: stale.Partition, Offset: 1, CorrelationID: "call-2",
	}}, got)

	require.NoError(t, l.store.Projected(t.Context(), got))
	got, err = l.store.Unprojected(t.Context(), allPartitions, 10)
	require.NoError(t, err)
	require.Empty(t, got)
	require.NoError(t, l.store.Projected(t.Context(), nil))
}

// Pass moves all cursors of the given partitions, in every generation, and no other; a cursor never goes back.
func TestPassMovesTheCursorsToThePositions(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	for i := range 20 {
		l.add(fmt.Sprintf("T%d", i), 1, "a")
	}
	l.apply()
	l.db.exec(t, `INSERT INTO ingest_offsets (topic_id, partition, generation, next_offset, leader_epoch, topic)
		SELECT gen_random_uuid(), partition, 9, 7, 0, 'next' FROM ingest_offsets`)
	l.db.exec(t, `INSERT INTO projection_cursor (generation, partition, projected_offset)
		SELECT 9, partition, 5 + partition FROM projection_cursor`)
	behind := func() int {
		return l.db.count(t, `SELECT count(*) FROM projection_cursor JOIN ingest_offsets USING (generation, partition)
			WHERE projected_offset < next_offset`)
	}
	require.Equal(t, 6, behind())
	require.NoError(t, l.store.Pass(t.Context(), allPartitions[:1]))
	require.Equal(t, 4, behind())
	require.NoError(t, l.store.Pass(t.Context(), allPartitions))
	require.Zero(t, behind())
	further := l.db.count(t, "SELECT count(*) FROM projection_cursor WHERE generation = 9 AND projected_offset = 8")
	require.Equal(t, 1, further, "the one that was further stays")
	left, err := l.store.Unprojected(t.Context(), allPartitions, 10)
	require.NoError(t, err)
	require.Empty(t, left)
}

// Whatever the limit and the backlog, reading in steps returns every outcome once and in offset order.
func TestUnprojectedInSteps(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	want := 0
	for i := range 40 {
		l.add("hot", int32(i+1), "a") // one partition has nearly all of it
		want++
	}
	for i := range 5 {
		l.add(fmt.Sprintf("cold-%d", i), 1, "a")
		want++
	}
	l.apply()
	for _, limit := range []int{1, 3, 7, 30, 45, 100} {
		l.db.exec(t, "UPDATE projection_cursor SET projected_offset = 0")
		var next [testPartitions]int64
		read := 0
		for {
			got, err := l.store.Unprojected(t.Context(), allPartitions, limit)
			require.NoError(t, err)
			if len(got) == 0 {
				break
			}
			require.Len(t, got, min(limit, want-read), "less than the limit means no more")
			for _, o := range got {
				require.Equal(t, next[o.Partition], o.Offset)
				next[o.Partition]++
			}
			read += len(got)
			require.NoError(t, l.store.Projected(t.Context(), got))
		}
		require.Equal(t, want, read)
	}
}

func TestUnprojectedIsLimitedToThePartitions(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	r := l.add("T1", 1, "a")
	l.apply()
	for p := range int32(testPartitions) {
		got, err := l.store.Unprojected(t.Context(), []int32{p}, 10)
		require.NoError(t, err)
		require.Equal(t, p == r.Partition, len(got) == 1)
	}
	got, err := l.store.Unprojected(t.Context(), nil, 10)
	require.NoError(t, err)
	require.Empty(t, got)
}

func TestCursorOnlyMovesForward(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	for i := range 20 {
		l.add("T1", int32(i+1), "a")
	}
	l.apply()
	all, err := l.store.Unprojected(t.Context(), allPartitions, 100)
	require.NoError(t, err)
	var projectors sync.WaitGroup
	errs := make([]error, len(all))
	for i := range all { // each projector comes with an older or newer view
		projectors.Go(func() { errs[i] = l.store.Projected(t.Context(), all[:i+1]) })
	}
	projectors.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	require.Equal(t, 20, l.db.count(t, "SELECT max(projected_offset) FROM projection_cursor"))
	require.NoError(t, l.store.Projected(t.Context(), all[:1]))
	require.Equal(t, 20, l.db.count(t, "SELECT max(projected_offset) FROM projection_cursor"))
}

func TestUnprojectedOfEarlierGenerations(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	l.add("T1", 1, "a")
	l.apply()
	l.newGeneration()
	l.add("T1", 1, "b")
	l.apply()
	got, err := l.store.Unprojected(t.Context(), allPartitions, 10)
	require.NoError(t, err)
	require.Len(t, got, 2)
	require.EqualValues(t, 1, got[0].Generation)
	require.EqualValues(t, 2, got[1].Generation)
	require.NoError(t, l.store.Projected(t.Context(), got))
	require.Equal(t, 2, l.db.count(t, "SELECT count(*) FROM projection_cursor WHERE projected_offset = 1"))
}
