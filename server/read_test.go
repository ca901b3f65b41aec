package server

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"tradestore/trade"
)

func TestRequestStatus(t *testing.T) {
	a := start(t, nil)
	id := trade.NewRequestID(testNow)
	f := func(state trade.RequestState, retryAfter, want string) {
		t.Helper()
		state.ID, state.AcceptedAt = id, testNow.Truncate(time.Microsecond)
		a.stores.set(func() { a.stores.states[id] = state })
		r := a.get(requestsPath + id.String())
		assert.Equal(t, 200, r.status)
		assert.Equal(t, retryAfter, r.header.Get("Retry-After"))
		assert.Equal(t, "no-store", r.header.Get("Cache-Control"))
		assert.JSONEq(t, `{"request_id":"`+id.String()+`","accepted_at":"2026-11-22T23:59:58.123456Z",`+want+`}`, r.body)
	}
	decided := testNow.Add(time.Second).Truncate(time.Millisecond)
	f(trade.RequestState{Status: trade.Pending, TradeID: "T1", Version: 2}, "1", `"status":"PENDING","trade_id":"T1","version":2`)
	f(trade.RequestState{Status: trade.Success, TradeID: "T1", Version: 2, DecidedAt: decided}, "",
		`"status":"SUCCESS","trade_id":"T1","version":2,"decided_at":"2026-11-22T23:59:59.123Z"`)
	f(trade.RequestState{Status: trade.Failed, TradeID: "T1", Version: 2, Reason: trade.StaleVersion, Detail: `low "v"`, DecidedAt: decided}, "",
		`"status":"FAILED","trade_id":"T1","version":2,"reason":"STALE_VERSION","detail":"low \"v\"","decided_at":"2026-11-22T23:59:59.123Z"`)
	f(trade.RequestState{Status: trade.Failed, Reason: trade.InvalidRecord, Detail: "x", DecidedAt: decided}, "",
		`"status":"FAILED","reason":"INVALID_RECORD","detail":"x","decided_at":"2026-11-22T23:59:59.123Z"`)
}

func TestReadsThatAreRefused(t *testing.T) {
	a := start(t, nil)
	id := trade.NewRequestID(testNow).String()
	f := func(path string, status int, code trade.Code) {
		t.Helper()
		a.get(path).problem(t, status, code)
	}
	f(requestsPath+id, 404, NotFound)
	f(requestsPath+strings.ToUpper(id), 400, InvalidRequestID)
	f(requestsPath+"1", 400, InvalidRequestID)
	f(requestsPath+id+"?x=1", 400, InvalidQuery)
	f(requestsPath+id+"?limit=1", 400, InvalidQuery)
	f(tradesPath+"/T1", 404, NotFound)
	f(tradesPath+"/T1?cursor=x", 400, InvalidQuery)
	f(tradesPath+"?limit=0", 400, InvalidQuery)
	f(tradesPath+"?limit=1001", 400, InvalidQuery)
	f(tradesPath+"?limit=01", 400, InvalidQuery)
	f(tradesPath+"?limit=%31", 400, InvalidQuery)
	f(tradesPath+"?limit=+1", 400, InvalidQuery)
	f(tradesPath+"?limit=", 400, InvalidQuery)
	f(tradesPath+"?limit=1&limit=1", 400, InvalidQuery)
	f(tradesPath+"?offset=1", 400, InvalidQuery)
	f(tradesPath+"?&", 400, InvalidQuery)
	f(tradesPath+"?cursor=AAAA", 400, InvalidCursor)
	f(tradesPath+"?cursor="+strings.Repeat("A", 513), 400, InvalidCursor)

	a.stores.set(func() { a.stores.onRead = func() error { return errDown } })
	f(requestsPath+id, 503, StoreUnavailable)
	f(tradesPath+"/T1", 503, StoreUnavailable)
	r := a.get(tradesPath)
	r.problem(t, 503, StoreUnavailable)
	assert.NotContains(t, r.body, "secret-host", "what the store said stays inside")
	assert.Contains(t, a.log.String(), "secret-host")
}

func TestTradesAndExpiry(t *testing.T) {
	a := start(t, nil)
	today := trade.DateOf(testNow)
	at := func(version int32, maturity trade.Date) trade.Trade {
		return trade.Trade{TradeID: "T1", Version: version, CounterpartyID: "C", BookID: "B", MaturityDate: maturity, CreatedDate: today}
	}
	a.stores.set(func() { a.stores.stored = []trade.Trade{at(1, today-1), at(2, today)} })
	const (
		v1 = `{"trade_id":"T1","version":1,"counterparty_id":"C","book_id":"B","maturity_date":"2026-11-21","created_date":"2026-11-22","expired":true}`
		v2 = `{"trade_id":"T1","version":2,"counterparty_id":"C","book_id":"B","maturity_date":"2026-11-22","created_date":"2026-11-22","expired":false}`
	)
	assert.JSONEq(t, `{"trade_id":"T1","items":[`+v1+`,`+v2+`]}`, a.get(tradesPath+"/T1").body)
	assert.JSONEq(t, `{"items":[`+v1+`,`+v2+`]}`, a.get(tradesPath).body)
	first := a.get(tradesPath + "?limit=1").fields(t)
	assert.Len(t, first["items"], 1)
	second := a.get(tradesPath + "?limit=1&cursor=" + first["next_cursor"].(string)).fields(t)
	assert.InDelta(t, 2, second["items"].([]any)[0].(map[string]any)["version"], 0)
	assert.NotContains(t, second, "next_cursor", "an exact last page is the last")
	a.stores.set(func() { a.stores.stored = nil })
	assert.JSONEq(t, `{"items":[]}`, a.get(tradesPath).body)
}

func TestPagesCoverEverythingOnce(t *testing.T) {
	a := start(t, nil)
	a.stores.set(func() {
		for i := range 1050 {
			a.stores.stored = append(a.stores.stored, trade.Trade{TradeID: fmt.Sprintf("T%04d", i), Version: 1})
		}
	})
	f := func(query string, pages int) {
		t.Helper()
		next, seen := query, map[string]bool{}
		for ; pages > 0; pages-- {
			page := a.get(tradesPath + "?" + next).fields(t)
			for _, item := range page["items"].([]any) {
				id := item.(map[string]any)["trade_id"].(string)
				require.False(t, seen[id])
				seen[id] = true
			}
			cursor, more := page["next_cursor"].(string)
			require.Equal(t, pages > 1, more)
			next = strings.TrimPrefix(query+"&cursor="+cursor, "&")
		}
		assert.Len(t, seen, 1050)
	}
	f("", 11)
	f("limit=1000", 2)
	f("limit=350", 3)
}

func TestCursorIsReadBackAndNothingElseIs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := trade.Key{
			TradeID: rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9._-]{0,63}`).Draw(t, "id"),
			Version: rapid.Int32Min(1).Draw(t, "version"),
		}
		cursor := string(appendCursor(nil, key))
		require.LessOrEqual(t, len(cursor), maxCursor)
		got, err := parseCursor(cursor)
		require.NoError(t, err)
		require.Equal(t, key, got)

		at := rapid.IntRange(0, len(cursor)-1).Draw(t, "at")
		with := rapid.Byte().Draw(t, "with")
		if changed := cursor[:at] + string([]byte{with}) + cursor[at+1:]; changed != cursor {
			_, err = parseCursor(changed)
			require.ErrorIs(t, err, errCursor)
		}
		_, err = parseCursor(cursor[:at])
		require.ErrorIs(t, err, errCursor)
	})
	for _, bad := range []trade.Key{{}, {TradeID: "T1"}, {TradeID: "T1", Version: -1}, {TradeID: "=1", Version: 1}} {
		_, err := parseCursor(string(appendCursor(nil, bad)))
		assert.ErrorIs(t, err, errCursor)
	}
}

// The path accepts the ids that the decoder accepts.
func TestTradeIDsInPathsAreThoseOfTrades(t *testing.T) {
	for _, id := range []string{"T", "9", "a.b_c-d", "-a", ".a", "_a", "", "a b", "é", strings.Repeat("x", 64), strings.Repeat("x", 65)} {
		_, invalid := trade.Decode([]byte(tradeJSON(id, 1)))
		assert.Equal(t, invalid == nil, isTradeID(id), id)
	}
}

func TestProblemsAreWellFormed(t *testing.T) {
	for code, kind := range problemTypes {
		assert.Regexp(t, `^[A-Z]+(_[A-Z]+)*$`, string(code))
		assert.GreaterOrEqual(t, kind.status, 400)
		assert.NotEmpty(t, kind.title)
	}
	assert.Equal(t, 500, (&problem{code: "NEW"}).status())
	f := func(text, want string) {
		t.Helper()
		assert.Equal(t, want, string(appendString(nil, text)))
	}
	f("", `""`)
	f("plain", `"plain"`)
	f(`"\`, `"\"\\"`)
	f("a\x00\n", `"a\u0000\n"`)
	f("</script>", `"\u003c/script\u003e"`)
	f("\xff", `"\ufffd"`)
}
