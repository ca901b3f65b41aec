package server

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

func historyOf(tradeID string) string { return tradesPath + "/" + tradeID + "/history" }

// postOf is a submission of T1 that was stored.
func postOf(id trade.RequestID, offset int64) trade.HistoryEntry {
	at := testNow.Truncate(time.Microsecond)
	s := trade.HistoryEntry{Trade: tradeOf("T1", 1)}
	s.RequestState = stateOf(id, trade.Success)
	s.AcceptedAt, s.DecidedAt = at, at
	s.Generation, s.Offset = 1, offset
	return s
}

func TestHistoryInPages(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	first, second := trade.NewRequestID(testNow), trade.NewRequestID(testNow)
	a.stores.set(func() {
		a.stores.submitted = []trade.HistoryEntry{postOf(first, 3), postOf(second, 5), postOf(trade.NewRequestID(testNow), 9)}
		a.stores.submitted[1].Replaced, a.stores.submitted[1].ReplayOf = first, first
		lost := &a.stores.submitted[2]
		lost.Trade, lost.Offset = trade.Trade{}, trade.NoOffset
		lost.Status, lost.Reason, lost.Detail = trade.Failed, trade.NotDelivered, "x"
	})
	item := func(id trade.RequestID, more string) string {
		return `{"request_id":"` + id.String() + `","status":"SUCCESS","trade_id":"T1","version":1,` +
			`"accepted_at":"2026-11-22T23:59:58.123456Z","decided_at":"2026-11-22T23:59:58.123456Z",` +
			`"counterparty_id":"CP-1","book_id":"B1","maturity_date":"2026-11-22","created_date":"2026-11-21"` + more + `}`
	}
	path := historyOf("T1")
	page := a.get(path + "?limit=2")
	cursor, _ := page.fields(t)["next_cursor"].(string)
	ofFirst := `,"replaced":"` + first.String() + `","replay_of":"` + first.String() + `"`
	items := `"items":[` + item(first, "") + `,` + item(second, ofFirst) + `]`
	assert.JSONEq(t, `{"trade_id":"T1",`+items+`,"next_cursor":"`+cursor+`"}`, page.body)
	last := a.get(path + "?limit=2&cursor=" + cursor).fields(t)
	assert.NotContains(t, last, "next_cursor")
	closed := last["items"].([]any)[0].(map[string]any)
	assert.Equal(t, "NOT_DELIVERED", closed["reason"])
	assert.NotContains(t, closed, "book_id")

	f := func(path string, status int, code trade.Code) {
		t.Helper()
		a.get(path).problem(t, status, code)
	}
	f(historyOf("T2")+"?cursor="+cursor, 400, InvalidCursor)
	f(tradesPath+"?cursor="+cursor, 400, InvalidCursor)
	f(path+"?limit=0", 400, InvalidQuery)
	f(path+"?latest=true", 400, InvalidQuery)
	f(historyOf("-"), 400, InvalidTradeID)
	a.stores.set(func() { a.stores.submitted = nil })
	f(path, 404, NotFound)
	a.stores.set(func() { a.stores.onRead = func() error { return errDown } })
	f(path, 503, StoreUnavailable)
}

func TestAsOfAnInstant(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	a.stores.set(func() {
		a.stores.stored = []trade.Trade{tradeOf("T1", 1)}
		a.stores.stored[0].MaturityDate = trade.DateOf(testNow) - 1
	})
	f := func(asOf string, want time.Time, expired bool) {
		t.Helper()
		m := a.get(tradesPath + "/T1?as_of=" + asOf).fields(t)
		require.Equal(t, want.Format(time.RFC3339Nano), m["as_of"])
		require.True(t, want.Equal(a.stores.asOf))
		require.Equal(t, expired, m["items"].([]any)[0].(map[string]any)["expired"], "by the day asked for")
	}
	f("2026-11-22T09:00:00.5Z", time.Date(2026, 11, 22, 9, 0, 0, 5e8, time.UTC), true)
	f("2026-11-21T23%3A00%3a00Z", time.Date(2026, 11, 21, 23, 0, 0, 0, time.UTC), false)
	refused := func(query string, status int, code trade.Code) {
		t.Helper()
		a.get(tradesPath+"/T1?"+query).problem(t, status, code)
	}
	refused("as_of=2026-11-23T00:00:00Z", 400, InvalidQuery) // in the future
	refused("as_of=2026-11-22", 400, InvalidQuery)
	refused("as_of=2026-11-22T01:00:00%2B02:00", 400, InvalidQuery)
	refused("as_of=0000-01-01T00:00:00Z", 400, InvalidQuery)
	refused("as_of=2026-11-22T09:00:00Z&pending=true", 400, InvalidQuery)
	refused("limit=1001", 400, InvalidQuery)
	refused("as_of=2026-11-22T09:00:00Z&limit=0", 400, InvalidQuery)
	a.stores.set(func() { a.stores.stored = append(a.stores.stored, tradeOf("T1", 2)) })
	cursor, _ := a.get(tradesPath + "/T1?limit=1").fields(t)["next_cursor"].(string)
	require.Len(t, a.get(tradesPath + "/T1?limit=1&cursor=" + cursor).fields(t)["items"], 1)
	refused("as_of=2026-11-22T09:00:00Z&cursor="+cursor, 400, InvalidCursor) // of what is stored now
	a.get(tradesPath+"/T2?cursor="+cursor).problem(t, 400, InvalidCursor)
	refused("pending=yes", 400, InvalidQuery)
	a.stores.set(func() { a.stores.onRead = func() error { return fmt.Errorf("cannot: %w", trade.ErrForgotten) } })
	refused("as_of=2026-11-22T09:00:00Z", 400, NotRetained)
	a.stores.set(func() { a.stores.onRead, a.stores.stored = nil, nil })
	refused("as_of=2026-11-22T09:00:00Z", 404, NotFound)
}

// Reads of the past run a few at a time; the rest is refused, and other reads go on.
func TestReadsOfThePastAreThrottled(t *testing.T) {
	t.Parallel()
	a := start(t, func(cfg *Config, _ *Deps) { cfg.MaxPastReads, cfg.PastWait = 2, time.Nanosecond })
	a.stores.set(func() {
		a.stores.stored = []trade.Trade{tradeOf("T1", 1)}
		a.stores.submitted = []trade.HistoryEntry{postOf(trade.NewRequestID(testNow), 3)}
	})
	held := newBarrier()
	a.stores.set(func() { a.stores.onRead = func() error { held.pass(); return nil } })
	const asOf = tradesPath + "/T1?as_of=2026-11-22T09:00:00Z"
	first := a.later(func() reply { return a.get(historyOf("T1")) })
	second := a.later(func() reply { return a.get(asOf) })
	eventually(t, func() bool { return a.srv.pasts.count() == 2 })
	for _, path := range []string{historyOf("T1"), asOf} {
		r := a.get(path)
		r.problem(t, 503, TooManyPastReads)
		require.Equal(t, "2", r.header.Get("Retry-After"))
	}
	a.stores.set(func() { a.stores.onRead = nil })
	require.Equal(t, 200, a.get(tradesPath+"/T1").status)
	held.open()
	require.Equal(t, 200, (<-first).status)
	require.Equal(t, 200, (<-second).status)
	require.Zero(t, a.srv.pasts.count())
	require.Equal(t, 200, a.get(historyOf("T1")).status)
}

// What was accepted and is not decided shows where there would be a 404; beside stored versions it has to be asked for.
func TestPendingVersionsAreShown(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	id := a.post(tradeJSON("T1", 2)).accepted(t)
	const accepted = `"accepted_at":"2026-11-22T23:59:58.123456Z"`
	pending := `"pending":[{"request_id":"` + id.String() + `","version":2,` + accepted + `}]`
	assert.JSONEq(t, `{"trade_id":"T1","items":[],`+pending+`}`, a.get(tradesPath+"/T1").body)
	a.stores.set(func() { a.stores.stored = []trade.Trade{tradeOf("T1", 1)} })
	assert.NotContains(t, a.get(tradesPath+"/T1").body, "pending")
	assert.NotContains(t, a.get(tradesPath+"/T1?pending=false").body, "pending")
	assert.Contains(t, a.get(tradesPath+"/T1?pending=true").body, pending)
	a.stores.set(func() { a.stores.stored, a.stores.onPending = nil, errDown })
	a.get(tradesPath+"/T1").problem(t, 404, NotFound)
}
