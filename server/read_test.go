package server

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

func TestRequestStatus(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	id := trade.NewRequestID(testNow)
	f := func(state trade.RequestState, retryAfter, want string) {
		t.Helper()
		state.ID, state.AcceptedAt = id, testNow.Truncate(time.Microsecond)
		a.stores.set(func() { a.stores.states[id] = state })
		r := a.get(requestsPath + id.String())
		assert.Equal(t, 200, r.status)
		assert.Equal(t, retryAfter, r.header.Get("Retry-After"))
		caching := map[bool]string{true: "no-cache", false: "no-store"}[state.Status.Terminal()]
		assert.Equal(t, caching, r.header.Get("Cache-Control"))
		assert.JSONEq(t, `{"request_id":"`+id.String()+`","accepted_at":"2026-11-22T23:59:58.123456Z",`+want+`}`, r.body)
	}
	decided := testNow.Add(time.Second).Truncate(time.Millisecond)
	const decidedAt = `"decided_at":"2026-11-22T23:59:59.123Z"`
	f(trade.RequestState{Status: trade.Pending, TradeID: "T1", Version: 2}, "1",
		`"status":"PENDING","trade_id":"T1","version":2`)
	f(trade.RequestState{Status: trade.Success, TradeID: "T1", Version: 2, DecidedAt: decided}, "",
		`"status":"SUCCESS","trade_id":"T1","version":2,`+decidedAt)
	f(trade.RequestState{Status: trade.Failed, TradeID: "T1", Version: 2, Reason: trade.StaleVersion,
		Detail: `low "v"`, DecidedAt: decided}, "",
		`"status":"FAILED","trade_id":"T1","version":2,"reason":"STALE_VERSION","detail":"low \"v\"",`+decidedAt)
	f(trade.RequestState{Status: trade.Failed, Reason: trade.InvalidRecord, Detail: "x", DecidedAt: decided}, "",
		`"status":"FAILED","reason":"INVALID_RECORD","detail":"x",`+decidedAt)
}

func TestReadsThatAreRefused(t *testing.T) {
	t.Parallel()
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
	f(tradesPath+"/T1?cursor=x", 400, InvalidCursor)
	f(tradesPath+"?limit=0", 400, InvalidQuery)
	f(tradesPath+"?limit=1001", 400, InvalidQuery)
	f(tradesPath+"?limit=01", 400, InvalidQuery)
	f(tradesPath+"?limit=%31", 400, InvalidQuery)
	f(tradesPath+"?limit=+1", 400, InvalidQuery)
	f(tradesPath+"?limit=", 400, InvalidQuery)
	f(tradesPath+"?limit=1&limit=1", 400, InvalidQuery)
	f(tradesPath+"?offset=1", 400, InvalidQuery)
	f(tradesPath+"?&", 400, InvalidQuery)
	f(tradesPath+"?trade_id_prefix=.a", 400, InvalidQuery)
	f(tradesPath+"?counterparty_id=a%20b", 400, InvalidQuery)
	f(tradesPath+"?book_id="+strings.Repeat("b", 65), 400, InvalidQuery)
	f(tradesPath+"?maturity_from=2026-02-30", 400, InvalidQuery)
	f(tradesPath+"?maturity_to=tomorrow", 400, InvalidQuery)
	f(tradesPath+"?maturity_from=2026-02-02&maturity_to=2026-02-01", 400, InvalidQuery)
	f(tradesPath+"?expired=1", 400, InvalidQuery)
	f(tradesPath+"?latest=TRUE", 400, InvalidQuery)
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
	t.Parallel()
	a := start(t, nil)
	today := trade.DateOf(testNow)
	at := func(version int32, maturity trade.Date) trade.Trade {
		return trade.Trade{TradeID: "T1", Version: version, CounterpartyID: "C", BookID: "B",
			MaturityDate: maturity, CreatedDate: today}
	}
	a.stores.set(func() { a.stores.stored = []trade.Trade{at(1, today-1), at(2, today)} })
	const (
		v1 = `{"trade_id":"T1","version":1,"counterparty_id":"C","book_id":"B",` +
			`"maturity_date":"2026-11-21","created_date":"2026-11-22","expired":true}`
		v2 = `{"trade_id":"T1","version":2,"counterparty_id":"C","book_id":"B",` +
			`"maturity_date":"2026-11-22","created_date":"2026-11-22","expired":false}`
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
	t.Parallel()
	a := start(t, nil)
	a.stores.set(func() {
		for i := range 1050 {
			a.stores.stored = append(a.stores.stored, tradeOf(fmt.Sprintf("T%04d", i), 1))
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

// The path accepts the ids that the decoder accepts.
func TestTradeIDsInPathsAreThoseOfTrades(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("x", 64)
	for _, id := range []string{"T", "9", "a.b_c-d", "-a", ".a", "_a", "", "a b", "é", longest, longest + "x"} {
		_, invalid := trade.Decode([]byte(tradeJSON(id, 1)))
		assert.Equal(t, invalid == nil, isTradeID(id), id)
	}
}

func TestProblemsAreWellFormed(t *testing.T) {
	t.Parallel()
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

// What a query says reaches the store; expired is a matter of today.
func TestFilters(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	today := trade.DateOf(testNow)
	f := func(query string, want trade.Filter) {
		t.Helper()
		require.Equal(t, 200, a.get(tradesPath+"?"+query).status)
		assert.Equal(t, want, a.stores.filter)
	}
	f("", trade.AllTrades())
	f("expired=true", trade.Filter{MaturityFrom: trade.FirstDate, MaturityTo: today - 1})
	f("expired=false", trade.Filter{MaturityFrom: today, MaturityTo: trade.LastDate})
	f("expired=false&maturity_to=2026-01-01", trade.Filter{MaturityFrom: today, MaturityTo: today - 325})
	f("latest=false&limit=1", trade.AllTrades())
	f("trade_id_prefix=T.&counterparty_id=C&book_id=B&maturity_from=2026-11-20&maturity_to=2026-11-22&latest=true",
		trade.Filter{Prefix: "T.", CounterpartyID: "C", BookID: "B", MaturityFrom: today - 2, MaturityTo: today,
			Latest: true})
}

// A page may be short, or empty, while there is more; its cursor goes on with the same filter only.
func TestPagesOfAFilter(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	a.stores.set(func() {
		for i := range 2500 {
			one := tradeOf(fmt.Sprintf("T%04d", i), 1)
			one.BookID = fmt.Sprintf("B%d", i/1100)
			a.stores.stored = append(a.stores.stored, one)
		}
	})
	next := "?book_id=B1&limit=900"
	var items []int
	var cursor string
	for range 3 {
		page := a.get(tradesPath + next).fields(t)
		items = append(items, len(page["items"].([]any)))
		if more, ok := page["next_cursor"].(string); ok {
			cursor, next = more, "?limit=900&book_id=B1&cursor="+more
		}
	}
	assert.Equal(t, []int{0, 900, 200}, items)
	for _, other := range []string{"", "&book_id=B2", "&book_id=B1&latest=true", "&counterparty_id=B1"} {
		a.get(tradesPath+"?cursor="+cursor+other).problem(t, 400, InvalidCursor)
	}
	r := a.get(tradesPath + "?cursor=" + cursor + "&limit=3&book_id=B1")
	assert.Equal(t, 200, r.status, "the limit may change, and the order")
}

func TestEntityTags(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	id := trade.NewRequestID(testNow)
	a.stores.set(func() {
		a.stores.stored = []trade.Trade{tradeOf("T1", 1)}
		a.stores.states[id] = stateOf(id, trade.Success)
	})
	for _, path := range []string{tradesPath + "/T1", requestsPath + id.String()} {
		first := a.get(path)
		tag := first.header.Get("ETag")
		require.Regexp(t, `^"[A-Za-z0-9_-]{16}"$`, tag)
		require.Equal(t, "no-cache", first.header.Get("Cache-Control"))
		f := func(status int, headers ...string) {
			t.Helper()
			r := a.send("GET", path, "", headers...)
			assert.Equal(t, status, r.status)
			assert.Equal(t, tag, r.header.Get("ETag"))
			assert.Equal(t, status == 304, r.body == "")
		}
		f(304, "If-None-Match: "+tag)
		f(304, "If-None-Match: W/"+tag)
		f(304, "If-None-Match: *")
		f(304, `If-None-Match: "a,\", W/"b" ,`+tag)
		f(304, `If-None-Match: "a"`, "If-None-Match: "+tag)
		f(200, `If-None-Match: "a"`)
		f(200, "If-None-Match: "+strings.Trim(tag, `"`))
		f(200, "If-None-Match: x, "+tag) // not a list of tags
		f(200, `If-None-Match: "`)
		assert.Empty(t, a.send("HEAD", path, "").body)
	}
	before := a.get(tradesPath + "/T1").header.Get("ETag")
	a.stores.set(func() { a.stores.stored[0].BookID = "other" })
	replaced := a.send("GET", tradesPath+"/T1", "", "If-None-Match: "+before)
	assert.Equal(t, 200, replaced.status, "a replaced version is another document")
	a.stores.set(func() {
		a.stores.states[id] = trade.RequestState{ID: id, Status: trade.Pending, AcceptedAt: testNow}
	})
	pending := a.send("GET", requestsPath+id.String(), "", "If-None-Match: *")
	assert.Equal(t, 200, pending.status)
	assert.Empty(t, pending.header.Get("ETag"))
}

// Both ways of telling that a version is stale name what is stored, where that can be read.
func TestStaleVersionsNameWhatIsStored(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	id := trade.NewRequestID(testNow)
	a.stores.set(func() {
		a.stores.stored = []trade.Trade{{TradeID: "T1", Version: 5}}
		state := stateOf(id, trade.Failed)
		state.Version, state.Reason = 4, trade.StaleVersion
		a.stores.states[id] = state
	})
	for _, r := range []reply{a.post(tradeJSON("T1", 4)), a.get(requestsPath + id.String())} {
		m := r.fields(t)
		assert.InDelta(t, 5, m["stored_version"], 0)
		assert.Equal(t, storedBy.String(), m["stored_by"])
	}
	a.stores.set(func() { a.stores.onRead = func() error { return errDown } })
	assert.NotContains(t, a.post(tradeJSON("T1", 4)).problem(t, 400, trade.StaleVersion), "stored_by")
}
