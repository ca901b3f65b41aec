package conformance

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

// tradeStore is a trade store with its journal, as the worker sees it.
type tradeStore interface {
	Positions(ctx context.Context) ([]trade.Position, error)
	Apply(ctx context.Context, batch *trade.Batch) (trade.Applied, error)
	Unprojected(ctx context.Context, partitions []int32, limit int) ([]trade.Decision, error)
	Projected(ctx context.Context, outcomes []trade.Decision) error
}

// StoreSubject is an empty trade store under test, with the positions of a topic of at least two partitions.
type StoreSubject struct {
	Store tradeStore
	// Trades returns what is stored.
	Trades func(t *testing.T) map[trade.Key]trade.Trade
	// Hurt makes the next Apply fail, once: Before it has committed, or After.
	Hurt func(t *testing.T, when When)
}

// TradeStore runs the contract of a trade store and its journal.
func TradeStore(t *testing.T, open func(t *testing.T) StoreSubject) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, l *storeLog)
	}{
		{"positions move with the batch", positionsMove},
		{"the last record of a version stays", lastRecordStays},
		{"a decided request is dropped", decidedIsDropped},
		{"a record that can't be stored", unstorable},
		{"a batch from another position is fenced", fenced},
		{"of two that apply the same one wins", oneWins},
		{"the journal is walked in order", walked},
		{"cursors only move forward", cursorsMoveForward},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, newStoreLog(t, open(t)))
		})
	}
	for _, when := range moments {
		t.Run("apply "+when.String(), func(t *testing.T) { brokenApply(t, newStoreLog(t, open(t)), when) })
	}
}

// storeLog is a topic in memory. Tests add records and apply them like a worker that owns partitions 0 and 1.
type storeLog struct {
	t *testing.T
	StoreSubject
	positions []trade.Position // as loaded, or as moved by the last batch that was committed
	end       [2]int64
	records   []trade.Record
}

func newStoreLog(t *testing.T, s StoreSubject) *storeLog {
	l := &storeLog{t: t, StoreSubject: s}
	l.load()
	return l
}

func (l *storeLog) load() {
	l.t.Helper()
	var err error
	l.positions, err = l.Store.Positions(l.t.Context())
	require.NoError(l.t, err)
}

// add appends a record of a new request. The length of the trade id selects the partition.
func (l *storeLog) add(tradeID string, version int32) *trade.Request {
	return l.append(trade.Record{Request: *NewRequest(tradeID, version, int32(len(tradeID)%2))})
}

func (l *storeLog) append(r trade.Record) *trade.Request {
	r.Offset, r.Value = l.end[r.Partition], []byte("as it lies in the log")
	l.end[r.Partition]++
	l.records = append(l.records, r)
	return &r.Request
}

// batch returns the records that were added since the last call.
func (l *storeLog) batch() *trade.Batch {
	b := &trade.Batch{TopicID: l.positions[0].TopicID, Generation: l.positions[0].Generation, Records: l.records}
	l.records = nil
	slices.SortStableFunc(b.Records, func(x, y trade.Record) int { return cmp.Compare(x.Partition, y.Partition) })
	for p, end := range l.end {
		at := &l.positions[p]
		if end > at.NextOffset {
			b.Spans = append(b.Spans, trade.Span{Partition: int32(p), From: at.NextOffset, Next: end, LeaderEpoch: 3})
		}
	}
	return b
}

// apply commits what was added.
func (l *storeLog) apply() trade.Applied {
	l.t.Helper()
	applied, err := l.Store.Apply(l.t.Context(), l.batch())
	require.NoError(l.t, err)
	l.load()
	return applied
}

func (l *storeLog) outcomes(limit int) []trade.Decision {
	l.t.Helper()
	found, err := l.Store.Unprojected(l.t.Context(), []int32{0, 1}, limit)
	require.NoError(l.t, err)
	return found
}

// ends returns the outcome of each request that is not projected.
func (l *storeLog) ends() map[trade.RequestID]trade.Code {
	l.t.Helper()
	m := make(map[trade.RequestID]trade.Code)
	for _, o := range l.outcomes(1000) {
		require.NotContains(l.t, m, o.ID, "one outcome per request")
		require.Equal(l.t, o.Reason != "", o.Status == trade.Failed)
		m[o.ID] = o.Reason
	}
	return m
}

func positionsMove(t *testing.T, l *storeLog) {
	for i, p := range l.positions {
		want := trade.Position{TopicID: l.positions[0].TopicID, Generation: 1, Partition: int32(i), LeaderEpoch: -1}
		require.Equal(t, want, p)
	}
	l.add("a", 1)
	l.end[1] += 7 // a hole: transaction markers, say
	l.add("b", 1)
	require.Equal(t, trade.Applied{Rows: 2}, l.apply())
	require.EqualValues(t, 0, l.positions[0].NextOffset)
	require.EqualValues(t, 9, l.positions[1].NextOffset)
	require.EqualValues(t, 3, l.positions[1].LeaderEpoch)
	require.EqualValues(t, -1, l.positions[0].LeaderEpoch)

	l.add("aa", 1)
	l.add("c", 1)
	l.end[1] += 2
	require.Equal(t, trade.Applied{Rows: 2}, l.apply())
	require.EqualValues(t, 1, l.positions[0].NextOffset)
	require.EqualValues(t, 12, l.positions[1].NextOffset, "a hole at the end as well")
	require.Len(t, l.Trades(t), 4)
}

func lastRecordStays(t *testing.T, l *storeLog) {
	first, high, last := l.add("a", 5), l.add("a", 7), l.add("a", 7)
	require.Equal(t, trade.Applied{Rows: 2}, l.apply())
	stale, again, next := l.add("a", 6), l.add("a", 7), l.add("a", 8)
	late := l.add("a", 7)
	require.Equal(t, trade.Applied{Rows: 2, Stale: 2}, l.apply())
	require.Equal(t, map[trade.Key]trade.Trade{
		{TradeID: "a", Version: 5}: first.Trade,
		{TradeID: "a", Version: 7}: again.Trade,
		{TradeID: "a", Version: 8}: next.Trade,
	}, l.Trades(t))
	require.Equal(t, map[trade.RequestID]trade.Code{
		first.ID: "", high.ID: "", last.ID: "", again.ID: "", next.ID: "",
		stale.ID: trade.StaleVersion, late.ID: trade.StaleVersion,
	}, l.ends())
}

// decidedIsDropped: a late duplicate of A must not overwrite a newer B of the same version (rule A2).
func decidedIsDropped(t *testing.T, l *storeLog) {
	a := l.add("a", 1)
	l.apply()
	b := l.add("a", 1)
	l.append(trade.Record{Request: *a})
	l.append(trade.Record{Request: *b})
	require.Equal(t, trade.Applied{Rows: 1, Duplicates: 2}, l.apply())
	require.Equal(t, b.Trade, l.Trades(t)[b.Trade.Key()])
	require.Equal(t, map[trade.RequestID]trade.Code{a.ID: "", b.ID: ""}, l.ends())
}

func unstorable(t *testing.T, l *storeLog) {
	before := l.add("a", 1)
	bad := NewRequest("a", 1, 1)
	l.append(trade.Record{Request: *bad, Fault: "unreadable"})
	l.append(trade.Record{Request: trade.Request{Partition: 1}, Fault: "nobody to answer"})
	after := l.add("b", 1)
	require.Equal(t, trade.Applied{Rows: 2, Invalid: 2, DeadLetters: 2}, l.apply())
	require.Equal(t, map[trade.RequestID]trade.Code{before.ID: "", bad.ID: trade.InvalidRecord, after.ID: ""}, l.ends())
	require.Equal(t, before.Trade, l.Trades(t)[before.Trade.Key()])
}

// unchanged applies a batch that must be fenced, and checks that nothing changed.
func (l *storeLog) unchanged(b *trade.Batch) {
	l.t.Helper()
	trades, positions, outcomes := l.Trades(l.t), slices.Clone(l.positions), l.outcomes(1000)
	_, err := l.Store.Apply(l.t.Context(), b)
	require.Equal(l.t, trade.Fenced, trade.ClassOf(err), "%v", err)
	l.load()
	require.Equal(l.t, positions, l.positions)
	require.Equal(l.t, trades, l.Trades(l.t))
	require.Equal(l.t, outcomes, l.outcomes(1000))
}

func fenced(t *testing.T, l *storeLog) {
	l.add("a", 1)
	old := l.batch()
	_, err := l.Store.Apply(t.Context(), old)
	require.NoError(t, err)
	l.load()
	l.unchanged(old)

	l.add("a", 2)
	l.add("aa", 2) // of the other partition: it goes or stays together with the first
	ahead := l.batch()
	for i := range ahead.Spans {
		if ahead.Spans[i].Partition == 1 {
			ahead.Spans[i].From--
		}
	}
	l.unchanged(ahead)
}

func oneWins(t *testing.T, l *storeLog) {
	for round := range 10 {
		l.add("a", int32(round+1))
		l.add("aa", int32(round+1))
		b := l.batch()
		var wins, losses int
		var mu sync.Mutex // protects the counts
		var workers sync.WaitGroup
		for range 3 {
			workers.Go(func() {
				_, err := l.Store.Apply(t.Context(), b)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					wins++
				} else if assert.Equal(t, trade.Fenced, trade.ClassOf(err), "%v", err) {
					losses++
				}
			})
		}
		workers.Wait()
		require.Equal(t, [2]int{1, 2}, [2]int{wins, losses})
		l.load()
	}
	require.Len(t, l.Trades(t), 20)
}

func walked(t *testing.T, l *storeLog) {
	var want []trade.RequestID
	for v := range int32(6) {
		want = append(want, l.add("a", v+1).ID)
		l.add("aa", v+1)
	}
	l.apply()
	var got []trade.RequestID
	for rounds := 0; ; rounds++ {
		require.Less(t, rounds, 20)
		some := l.outcomes(5)
		require.LessOrEqual(t, len(some), 5)
		if len(some) == 0 {
			break
		}
		for _, o := range some {
			if o.Partition == 1 {
				got = append(got, o.ID)
			}
		}
		require.NoError(t, l.Store.Projected(t.Context(), some))
	}
	require.Equal(t, want, got, "in the order of the log, none left out")
	require.NoError(t, l.Store.Projected(t.Context(), nil))
	others, err := l.Store.Unprojected(t.Context(), []int32{0}, 5)
	require.NoError(t, err)
	require.Empty(t, others)
}

func cursorsMoveForward(t *testing.T, l *storeLog) {
	l.add("a", 1)
	l.add("a", 2)
	l.apply()
	all := l.outcomes(10)
	require.Len(t, all, 2)
	require.NoError(t, l.Store.Projected(t.Context(), all))
	require.NoError(t, l.Store.Projected(t.Context(), all[:1]), "a projector that fell behind")
	require.Empty(t, l.outcomes(10))
}

// brokenApply compares the class of the error with what the store has: any class but CommitUnknown means that nothing
// was done, and after CommitUnknown the positions tell (rule E4).
func brokenApply(t *testing.T, l *storeLog, when When) {
	l.add("a", 1)
	l.apply()
	r := l.add("a", 1)
	b := l.batch()
	l.Hurt(t, when)
	_, err := l.Store.Apply(t.Context(), b)
	require.Error(t, err)
	l.load()
	moved := l.positions[1].NextOffset == b.Spans[0].Next
	require.Equal(t, when == After, moved)
	if moved {
		require.Equal(t, trade.CommitUnknown, trade.ClassOf(err), "%v", err)
		l.unchanged(b)
	} else {
		require.EqualValues(t, b.Spans[0].From, l.positions[1].NextOffset)
		_, err = l.Store.Apply(t.Context(), b)
		require.NoError(t, err, "the whole batch, again")
	}
	require.Equal(t, r.Trade, l.Trades(t)[r.Trade.Key()])
	require.Len(t, l.ends(), 2)
}
