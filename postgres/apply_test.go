package postgres

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

func TestApplyStoresABatch(t *testing.T) {
	l := newTopicLog(t)
	l.add("T1", 1, "first")
	l.add("T1", 3, "higher")
	l.add("T1", 2, "stale")
	l.add("T1", 3, "again")
	l.add("T2", 7, "other")
	poison := l.add("T3", 1, "poison")
	l.pending[len(l.pending)-1].Fault = "counterparty_id: not stored \x00 here"
	nobody := l.append(trade.Record{Request: trade.Request{Partition: 2}, Fault: "no request id"})
	_, _ = poison, nobody

	require.Equal(t, trade.Applied{Rows: 3, Stale: 1, Invalid: 2, DeadLetters: 2}, l.apply())
	require.Equal(t, "first", l.db.book(t, "T1", 1))
	require.Equal(t, "again", l.db.book(t, "T1", 3))
	require.Equal(t, "other", l.db.book(t, "T2", 7))
	require.Equal(t, 6, l.db.count(t, "SELECT count(*) FROM submissions"))
	require.Equal(t, 4, l.db.count(t, "SELECT count(*) FROM submissions WHERE outcome = 'SUCCESS'"))
	require.Equal(t, 2, l.db.count(t, "SELECT count(*) FROM dead_letter"))
	for _, line := range l.db.contents(t) {
		t.Log(line)
	}
}
