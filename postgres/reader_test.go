package postgres

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

func TestReads(t *testing.T) {
	l := newTopicLog(t)
	l.add("B", 2, "x")
	l.add("a", 1, "x")
	l.add("A", 1, "x")
	l.add("A", 10, "y")
	l.apply()
	r := NewReader(l.db.reads)

	highest, err := r.MaxVersions(t.Context(), []string{"A", "B", "none", "A"})
	require.NoError(t, err)
	require.Equal(t, map[string]int32{"A": 10, "B": 2}, highest)
	highest, err = r.MaxVersions(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, highest)

	versions, err := r.Versions(t.Context(), "A")
	require.NoError(t, err)
	require.Equal(t, []trade.Trade{newTrade("A", 1, "x"), newTrade("A", 10, "y")}, versions)
	versions, err = r.Versions(t.Context(), "none")
	require.NoError(t, err)
	require.Empty(t, versions)
}

// Pages of every size meet each row once, in byte order: upper case first.
func TestListInPages(t *testing.T) {
	l := newTopicLog(t)
	l.add("b", 1, "x")
	l.add("A", 2, "x")
	l.add("A", 10, "x")
	l.add("B-1", 1, "x")
	l.add("B.1", 1, "x")
	l.add("B", 3, "x")
	l.apply()
	r := NewReader(l.db.reads)
	want := []trade.Key{{TradeID: "A", Version: 2}, {TradeID: "A", Version: 10}, {TradeID: "B", Version: 3},
		{TradeID: "B-1", Version: 1}, {TradeID: "B.1", Version: 1}, {TradeID: "b", Version: 1}}
	for limit := 1; limit <= len(want)+1; limit++ {
		var got []trade.Key
		after := trade.Key{}
		for {
			page, err := r.List(t.Context(), after, limit)
			require.NoError(t, err)
			require.LessOrEqual(t, len(page), limit)
			for i := range page {
				got = append(got, page[i].Key())
			}
			if len(page) < limit {
				break
			}
			after = got[len(got)-1]
		}
		require.Equal(t, want, got)
	}
}

// Dates at both ends of what a trade may carry come back as they went in.
func TestDatesAtTheEnds(t *testing.T) {
	l := newTopicLog(t)
	first, _ := trade.ParseDate("0001-01-01")
	last, _ := trade.ParseDate("9999-12-31")
	f := func(created, maturity trade.Date) {
		t.Helper()
		l.add("T", 1, "x")
		l.pending[0].Trade.CreatedDate, l.pending[0].Trade.MaturityDate = created, maturity
		l.apply()
		got, err := NewReader(l.db.reads).Versions(t.Context(), "T")
		require.NoError(t, err)
		require.Equal(t, created, got[0].CreatedDate)
		require.Equal(t, maturity, got[0].MaturityDate)
	}
	f(first, last) // inserts
	f(last, first) // replaces
	require.Equal(t, 1, l.db.count(t, "SELECT count(*) FROM submissions WHERE created_date = '0001-01-01' AND maturity_date = '9999-12-31'"))
}

func TestReadsWithoutADatabase(t *testing.T) {
	r := NewReader(openPool(t, "postgres://nobody@127.0.0.1:1/none", "reads", Open))
	_, err := r.MaxVersions(t.Context(), []string{"A"})
	require.ErrorContains(t, err, "cannot read the versions of 1 trades")
	_, err = r.Versions(t.Context(), "A")
	require.Error(t, err)
	_, err = r.List(t.Context(), trade.Key{}, 10)
	require.ErrorContains(t, err, "cannot list 10 trades")
}
