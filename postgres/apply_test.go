package postgres

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

func TestApplyStoresABatch(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	l.add("T1", 1, "first")
	l.add("T1", 3, "higher")
	l.add("T1", 2, "stale")
	l.add("T1", 3, "again")
	l.add("T2", 7, "other")
	require.Equal(t, trade.Applied{Rows: 3, Stale: 1}, l.apply())
	require.Equal(t, "first", l.db.book(t, "T1", 1))
	require.Equal(t, "again", l.db.book(t, "T1", 3))
	require.Equal(t, "other", l.db.book(t, "T2", 7))
	require.Equal(t, 5, l.db.count(t, "SELECT count(*) FROM journal"), "a replaced version is still in the journal")
	require.Equal(t, 4, l.db.count(t, "SELECT count(*) FROM journal WHERE outcome = 'SUCCESS'"))
	require.Equal(t, 5, l.db.count(t, "SELECT sum(next_offset) FROM ingest_offsets"))

	l.add("T1", 3, "once more")
	l.add("T1", 1, "stale")
	require.Equal(t, trade.Applied{Rows: 1, Stale: 1}, l.apply())
	require.Equal(t, "once more", l.db.book(t, "T1", 3))
}

func TestPoisonGoesToDeadLetter(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	l.add("T1", 1, "poison \xff\x00")
	l.pending[0].Fault = "book_id: \xff\x00 refused" + strings.Repeat("!", maxDetail)
	l.append(trade.Record{Request: trade.Request{Partition: 2}, Fault: "no request id"})
	l.pending[1].Value = nil
	require.Equal(t, trade.Applied{Invalid: 2, DeadLetters: 2}, l.apply())
	require.Equal(t, 2, l.db.count(t, "SELECT count(*) FROM dead_letter WHERE reason = 'INVALID_RECORD'"))
	require.Equal(t, 1, l.db.count(t, `SELECT count(*) FROM dead_letter
		WHERE request_id IS NULL AND value IS NULL AND partition = 2`))
	require.Equal(t, 1, l.db.count(t, `SELECT count(*) FROM dead_letter WHERE value = 'as it lies in the log'`))
	require.Equal(t, 1, l.db.count(t, `SELECT count(*) FROM journal
		WHERE outcome = 'FAILED' AND trade_id IS NULL AND detail LIKE 'book_id: ? refused%'`))
	require.Zero(t, l.db.count(t, "SELECT count(*) FROM trades"))
}

// Positions move over a part of the log without records.
func TestApplyOfAGap(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	l.next[1] = 900
	require.Equal(t, trade.Applied{}, l.apply())
	require.Equal(t, 900, l.db.count(t, "SELECT next_offset FROM ingest_offsets WHERE partition = 1"))
	require.Equal(t, 3, l.db.count(t, "SELECT leader_epoch FROM ingest_offsets WHERE partition = 1"))
}

func TestStaleWorkerChangesNothing(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	l.add("T1", 1, "a")
	first := l.batch()
	_, err := l.store.Apply(t.Context(), first)
	require.NoError(t, err)

	before := l.db.contents(t)
	_, err = l.store.Apply(t.Context(), first)
	require.Equal(t, trade.Fenced, trade.ClassOf(err), "%v", err)
	require.Equal(t, before, l.db.contents(t))

	// One of two positions moved: the other does not move either.
	l.add("T1", 2, "b")
	l.add("T2", 1, "b")
	l.db.exec(t, "UPDATE ingest_offsets SET next_offset = next_offset + 1 WHERE partition = $1", partitionOf("T2"))
	require.NotEqual(t, partitionOf("T1"), partitionOf("T2"))
	l.refused(t.Context(), trade.Fenced)

	// A topic that was created anew has no positions.
	l.topic = trade.TopicID{9}
	l.add("T1", 2, "b")
	l.refused(t.Context(), trade.Fenced)
}

func TestTwoOwnersOfAPartition(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	for i := range 50 {
		l.add(fmt.Sprintf("T%d", i), 1, "a")
	}
	batch := l.batch()
	errs := make([]error, 3)
	var owners sync.WaitGroup
	for i := range errs {
		owners.Go(func() { _, errs[i] = l.store.Apply(t.Context(), batch) })
	}
	owners.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else {
			require.Equal(t, trade.Fenced, trade.ClassOf(err), "%v", err)
		}
	}
	require.Equal(t, 1, won)
	require.Equal(t, 50, l.db.count(t, "SELECT count(*) FROM journal"))
}

// A late copy of A must not undo B, which replaced it (invariant A2).
func TestDuplicates(t *testing.T) {
	t.Parallel()
	f := func(apart bool) {
		t.Helper()
		l := newTopicLog(t)
		step := func() {
			if apart {
				l.apply()
			}
		}
		a := l.add("T1", 1, "A")
		step()
		l.add("T1", 1, "B")
		step()
		l.append(a)
		applied := l.apply()
		require.Equal(t, 1, applied.Duplicates)
		require.Equal(t, "B", l.db.book(t, "T1", 1))
		require.Equal(t, 2, l.db.count(t, "SELECT count(*) FROM journal"))
		require.Equal(t, 3, l.db.count(t, "SELECT max(next_offset) FROM ingest_offsets"))
	}
	f(true)
	f(false)
}

// Requests of several days are looked up each in its own.
func TestDuplicatesAroundMidnight(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	require.NoError(t, NewMaintainer(l.db.reads).MakeDays(t.Context(), testNow))
	today := l.add("T1", 1, "A")
	yesterday := l.add("T2", 1, "A")
	yesterday.AcceptedAt = yesterday.AcceptedAt.Add(-oneDay)
	yesterday.ID = trade.NewRequestID(yesterday.AcceptedAt)
	l.pending[1].Request = yesterday.Request
	l.apply()
	l.append(today)
	l.append(yesterday)
	require.Equal(t, 2, l.apply().Duplicates)
}

// The source position is compared by generation first: offsets start over in a new topic (invariant A5).
func TestNewGenerationReplaces(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	l.next[partitionOf("T1")] = 900
	l.add("T1", 1, "old topic")
	l.apply()
	l.newGeneration()
	l.add("T1", 1, "new topic")
	require.Equal(t, 1, l.apply().Rows)
	require.Equal(t, "new topic", l.db.book(t, "T1", 1))
	require.Zero(t, l.db.count(t, "SELECT src_offset FROM trades"))
}

func TestBrokenAssumptions(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	l.add("T1", 1, "stored")
	l.apply()
	const replaced, inserted = "T1", "T2"
	f := func(prepare, undo string, want trade.Class, ids ...string) {
		t.Helper()
		l.db.exec(t, prepare)
		for _, id := range ids {
			at := l.applied
			l.add(id, 1, "wrong")
			l.refused(t.Context(), want)
			l.next, l.applied = at, at
		}
		l.db.exec(t, undo)
	}
	f("UPDATE trades SET src_offset = 900", "UPDATE trades SET src_offset = 0", trade.Broken, replaced)
	f("ALTER TABLE trades RENAME book_id TO book", "ALTER TABLE trades RENAME book TO book_id",
		trade.Broken, replaced, inserted)
	const drift = "CONSTRAINT drift CHECK (book_id <> 'wrong')"
	f("ALTER TABLE trades ADD "+drift, "ALTER TABLE trades DROP CONSTRAINT drift", trade.BadData, replaced, inserted)
	f("ALTER TABLE journal ADD "+drift, "ALTER TABLE journal DROP CONSTRAINT drift", trade.BadData, replaced, inserted)
	f("ALTER TABLE journal DETACH PARTITION journal_default",
		"ALTER TABLE journal ATTACH PARTITION journal_default DEFAULT", trade.Broken, replaced, inserted)

	g := func(change func(r *trade.Record), want trade.Class) {
		t.Helper()
		for _, id := range []string{replaced, inserted} {
			at := l.applied
			l.add(id, 1, "wrong")
			change(&l.pending[0])
			l.refused(t.Context(), want)
			l.next, l.applied = at, at
		}
	}
	g(func(r *trade.Record) { r.Trade.BookID = "\xff" }, trade.BadData)
	g(func(r *trade.Record) { r.Trade.BookID = "\x00" }, trade.BadData)
	g(func(r *trade.Record) { r.Trade.MaturityDate = 1<<31 - 1 }, trade.BadData)
	g(func(r *trade.Record) { r.ID = trade.RequestID{} }, trade.Broken)
	l.add(replaced, 1, "good")
	l.add(inserted, 1, "good")
	require.Equal(t, 2, l.apply().Rows)
}

// However a log is cut, the tables hold the rows that Decide finds over the whole of it at once.
func TestCutsAgree(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 1))
		l := newTopicLog(t)
		var whole []trade.Record
		for range 12 {
			for range rng.IntN(60) {
				l.add(fmt.Sprintf("T%d", rng.IntN(15)), 1+rng.Int32N(4), fmt.Sprintf("B%d", rng.IntN(1e6)))
				if rng.IntN(20) == 0 && len(whole) > 0 { // a late copy
					l.append(whole[rng.IntN(len(whole))])
				}
				if rng.IntN(20) == 0 {
					l.pending[len(l.pending)-1].Fault = "poison"
				}
			}
			whole = append(whole, l.pending...)
			l.apply()
		}
		plan := trade.Decide(whole, nil, nil)
		require.Equal(t, len(plan.Inserts), l.db.count(t, "SELECT count(*) FROM trades"))
		for _, r := range plan.Inserts {
			require.Equal(t, r.Trade.BookID, l.db.book(t, r.Trade.TradeID, r.Trade.Version))
		}
		require.Equal(t, len(plan.Decisions), l.db.count(t, "SELECT count(*) FROM journal"))
	}
}
