package postgres

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

func TestReads(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	first := l.add("B", 2, "x")
	l.add("a", 1, "x")
	l.add("A", 1, "x")
	last := l.add("A", 10, "y")
	l.apply()
	r := NewReader(l.db.reads)

	highest, err := r.MaxVersions(t.Context(), []string{"A", "B", "none", "A"})
	require.NoError(t, err)
	require.Equal(t, map[string]int32{"A": 10, "B": 2}, highest)
	highest, err = r.MaxVersions(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, highest)

	stored, err := r.Newest(t.Context(), []string{"B", "A", "none"})
	require.NoError(t, err)
	require.Equal(t, map[string]trade.Stored{
		"A": {Version: 10, RequestID: last.ID}, "B": {Version: 2, RequestID: first.ID},
	}, stored)

	f := func(id string, after int32, limit int, wantNext int32, want ...trade.Trade) {
		t.Helper()
		page, next, err := r.Versions(t.Context(), id, after, limit)
		require.NoError(t, err)
		require.Equal(t, wantNext, next)
		require.ElementsMatch(t, want, page)
	}
	one, ten := newTrade("A", 1, "x"), newTrade("A", 10, "y")
	f("A", 0, 3, 0, one, ten)
	f("A", 0, 2, 0, one, ten)
	f("A", 0, 1, 1, one)
	f("A", 1, 1, 0, ten)
	f("A", 10, 1, 0)
	f("none", 0, 1, 0)
}

// Dates at both ends of what a trade may carry come back as they went in.
func TestDatesAtTheEnds(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	first, _ := trade.ParseDate("0001-01-01")
	last, _ := trade.ParseDate("9999-12-31")
	f := func(created, maturity trade.Date) {
		t.Helper()
		l.add("T", 1, "x")
		l.pending[0].Trade.CreatedDate, l.pending[0].Trade.MaturityDate = created, maturity
		l.apply()
		got, _, err := NewReader(l.db.reads).Versions(t.Context(), "T", 0, 1)
		require.NoError(t, err)
		require.Equal(t, created, got[0].CreatedDate)
		require.Equal(t, maturity, got[0].MaturityDate)
	}
	f(first, last) // inserts
	f(last, first) // replaces
	require.Equal(t, 1, l.db.count(t, `SELECT count(*) FROM journal
		WHERE created_date = '0001-01-01' AND maturity_date = '9999-12-31'`))
}

func TestReadsWithoutADatabase(t *testing.T) {
	t.Parallel()
	r := NewReader(openPool(t, unreachable, "reads", Open))
	_, err := r.MaxVersions(t.Context(), []string{"A"})
	require.ErrorContains(t, err, "cannot read the versions of 1 trades")
	_, _, err = r.Versions(t.Context(), "A", 0, 1)
	require.Error(t, err)
	_, err = r.Newest(t.Context(), []string{"A"})
	require.ErrorContains(t, err, "cannot read the newest versions of 1 trades")
	_, _, err = r.List(t.Context(), trade.AllTrades(), trade.Key{}, 10)
	require.ErrorContains(t, err, "cannot list 10 trades")
}
