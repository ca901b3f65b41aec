package cmd

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"tradestore/internal/apiclient"
	"tradestore/trade"
)

const someID = "019e7c1a-5b7e-7c40-9f4e-3a1f0c2d4b6a"

// says is a service that gives the answers in turn, and the last one for ever: a status, a space and the body.
func says(t *testing.T, answers ...string) (url string) {
	t.Helper()
	var n atomic.Int64
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		code, body, _ := strings.Cut(answers[min(int(n.Add(1)), len(answers))-1], " ")
		if code == "hangup" {
			panic(http.ErrAbortHandler)
		}
		var status int
		_, err := fmt.Sscan(code, &status)
		if err != nil {
			panic(err)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(service.Close)
	return service.URL
}

func TestStatusEndsWithACode(t *testing.T) {
	f := func(code int, shown, answer string, args ...string) {
		t.Helper()
		got := try(t, t.Context(), "status", "", append([]string{someID, "--url", says(t, answer)}, args...)...)
		require.Equal(t, code, got.code, got)
		require.Contains(t, got.stdout+got.stderr, shown)
	}
	f(0, "SUCCESS", `200 {"status":"SUCCESS","trade_id":"T1","version":3}`)
	f(0, "(after 82ms)", `200 {"status":"SUCCESS","accepted_at":"2026-11-23T00:52:32.023107Z",`+
		`"decided_at":"2026-11-23T00:52:32.105318Z"}`)
	f(exitFailed, "version 3 is lower",
		`200 {"status":"FAILED","reason":"STALE_VERSION","detail":"version 3 is lower than 5"}`)
	f(exitUnknown, "PENDING", `200 {"status":"PENDING"}`)
	f(exitUnknown, "PENDING", `202 {"status":"PENDING"}`)
	f(exitMissing, "NOT_FOUND: no such request", `404 {"status":404,"code":"NOT_FOUND","detail":"no such request"}`)
	f(exitMissing, "404 Not Found", `404 {"status":"of a gateway"}`)
	f(exitFailed, "INVALID_QUERY: x", `400 {"status":400,"code":"INVALID_QUERY","detail":"x"}`)
	f(exitUnknown, "STORE_UNAVAILABLE", `503 {"status":503,"code":"STORE_UNAVAILABLE"}`)
	f(exitUnknown, "502 Bad Gateway", `502 <html>`)
	f(exitUnknown, "not an answer of Trade Store", `200 <html>`)
	f(exitUnknown, "not an answer of Trade Store", `200 {}`)
	f(exitUnknown, "not an answer of Trade Store", `302 {}`)
	f(exitUnknown, "no answer", `hangup`)
	f(exitUnknown, "no answer", ``, "--url", "http://127.0.0.1:1")

	f(exitFailed, `"reason": "STALE_VERSION"`, `200 {"status":"FAILED","reason":"STALE_VERSION"}`, "--json")
	f(exitMissing, `"new_member": 1`, `404 {"code":"NOT_FOUND","new_member":1}`, "--json")
	f(exitUnknown, "502 Bad Gateway", `502 <html>`, "--json")

	got := try(t, t.Context(), "status", "", "no-id")
	require.Equal(t, 2, got.code)
	require.Contains(t, got.stderr, "<id>: a request id is")
	f(2, "--url: not a URL", "", "--url", "localhost:8000")
	f(2, "--timeout: -1s", "", "--timeout=-1s")
}

func TestWatchGoesOnUntilTheRequestIsDecided(t *testing.T) {
	url := says(t, "hangup", `503 {"code":"STORE_UNAVAILABLE"}`, `502 <html>`, `200 {"status":"PENDING"}`,
		`200 {"status":"FAILED","reason":"NOT_DELIVERED"}`)
	got := try(t, t.Context(), "status", "", someID, "--watch", "--url", url)
	require.Equal(t, exitFailed, got.code)
	require.Contains(t, got.stdout, "NOT_DELIVERED")

	got = try(t, t.Context(), "status", "", someID, "--watch", "--url", says(t, `404 {"code":"NOT_FOUND"}`))
	require.Equal(t, exitMissing, got.code)

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	got = try(t, ended, "status", "", someID, "--watch", "--url", url)
	require.Equal(t, exitUnknown, got.code)
	require.Contains(t, got.stderr, "ended before the request was decided")
}

func TestWhatATerminalWouldActOnIsWrittenOut(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		require.Equal(t, want, printable(in))
	}
	f("Zoë 交易", "Zoë 交易")
	f("\x1b]0;x\a", `\u001b]0;x\u0007`)
	f("a\r\nb\tc\x7f", `a\u000d\u000ab\u0009c\u007f`)
	f("\u009b31m", `\u009b31m`)
	f("\u202egnp", `\u202egnp`)
	f("\xff!", `\xff!`)
	f("\U000e0001", `\udb40\udc01`)

	const hostile = `{"status":"FAILED","reason":"\u001b[2J","detail":"\u009b\u202e","trade_id":"\u0007","other":"` +
		"\u009b\U000e0001" + `"}`
	for _, args := range [][]string{{}, {"--json"}} {
		got := try(t, t.Context(), "status", "", append(args, someID, "--url", says(t, "200 "+hostile))...)
		require.NotRegexp(t, `[^\n -~]`, got.stdout)
		require.Contains(t, got.stdout, `\u001b[2J`)
		require.Contains(t, got.stdout, `\u202e`)
	}
	got := try(t, t.Context(), "status", "", "--json", someID, "--url", says(t, "200 "+hostile))
	require.JSONEq(t, hostile, got.stdout)
	got = try(t, t.Context(), "trades", "", "T1", "--url", says(t, `200 {"items":[{"version":1,"book_id":"\u001b[2J"}]}`))
	require.Contains(t, got.stdout, `\u001b[2J`)
	got = try(t, t.Context(), "trades", "", "T1", "--url", says(t, `400 {"code":"\u001b[2J"}`))
	require.NotRegexp(t, `[^\n -~]`, got.stderr)
	require.Contains(t, got.stderr, `\u001b[2J`)
}

func TestTradesShowsPagesAndWhatIsPending(t *testing.T) {
	got := try(t, t.Context(), "trades", "", "T1", "--url",
		says(t, `200 {"items":[],"pending":[{"request_id":"R","version":7,"accepted_at":"A"}]}`))
	require.Equal(t, 0, got.code, got)
	require.Contains(t, got.stdout, "version 7 is PENDING since A, request R\n")
	pages := []string{`200 {"items":[{"version":1}],"next_cursor":"c"}`,
		`200 {"items":[{"version":2,"reason":"STALE_VERSION"}]}`}
	got = try(t, t.Context(), "trades", "", "T1", "--history", "--url", says(t, pages...))
	require.Equal(t, 0, got.code, got)
	require.Regexp(t, `(?s) 1 .* 2 +STALE_VERSION `, got.stdout)
	got = try(t, t.Context(), "trades", "", "T1", "--history", "--json", "--url", says(t, pages...))
	require.Contains(t, got.stdout, `"next_cursor": "c"`)
	require.Contains(t, got.stdout, `"reason": "STALE_VERSION"`)
}

func TestColour(t *testing.T) {
	plain, coloured := process{}, process{colour: true}
	require.Equal(t, "FAILED", plain.paintStatus(trade.Failed))
	require.Equal(t, "\x1b[31mFAILED\x1b[0m", coloured.paintStatus(trade.Failed))
	require.Equal(t, "\x1b[32mSUCCESS\x1b[0m", coloured.paintStatus(trade.Success))
	require.Equal(t, "\x1b[33mPENDING\x1b[0m", coloured.paintStatus(trade.Pending))
}

// tradeJSON is a trade that the service takes.
func tradeJSON(id string, version int) string {
	return fmt.Sprintf(`{"trade_id":%q,"version":%d,"counterparty_id":"CP-1","book_id":"B1",`+
		`"maturity_date":"9998-12-31","created_date":"2026-01-02"}`, id, version)
}

// post submits a trade and returns its request id.
func post(t *testing.T, s liveStack, body string) string {
	t.Helper()
	res, err := http.Post(s.API+apiclient.TradesPath, "application/json", strings.NewReader(body))
	require.NoError(t, err)
	defer res.Body.Close()
	var d apiclient.State
	require.NoError(t, json.NewDecoder(res.Body).Decode(&d))
	require.Equal(t, http.StatusAccepted, res.StatusCode, d)
	return d.RequestID
}

func testStatusAndTrades(t *testing.T, s liveStack) {
	id := post(t, s, tradeJSON("CLI-1", 2))
	got := try(t, t.Context(), "status", "", id, "--url", s.API+"/", "--watch")
	require.Equal(t, 0, got.code, got)
	require.Regexp(t, `(?m)^request +`+id+`\nstatus +SUCCESS\ntrade +CLI-1\nversion +2\n`+
		`accepted +\S+\ndecided +\S+ \(after \S+\)\n$`, got.stdout)
	got = try(t, t.Context(), "status", "", id, "--url", s.API, "--json")
	require.Equal(t, 0, got.code, got)
	require.Contains(t, got.stdout, `"status": "SUCCESS"`)
	got = try(t, t.Context(), "status", "", someID, "--url", s.API)
	require.Equal(t, exitMissing, got.code, got)

	got = try(t, t.Context(), "trades", "", "CLI-1", "--url", s.API)
	require.Equal(t, 0, got.code, got)
	require.Equal(t, "VERSION  COUNTERPARTY  BOOK  MATURITY    CREATED     EXPIRED\n"+
		"2        CP-1          B1    9998-12-31  2026-01-02  no\n", got.stdout)
	got = try(t, t.Context(), "trades", "", "CLI-1", "--url", s.API, "--json")
	require.Contains(t, got.stdout, `"counterparty_id": "CP-1"`)
	again := post(t, s, tradeJSON("CLI-1", 2))
	stale := post(t, s, tradeJSON("CLI-0", 1))
	for _, id := range []string{again, stale} {
		require.Equal(t, 0, try(t, t.Context(), "status", "", id, "--watch", "--url", s.API).code)
	}
	got = try(t, t.Context(), "trades", "", "CLI-1", "--history", "--url", s.API)
	require.Equal(t, 0, got.code, got)
	require.Regexp(t, `^DECIDED +VERSION +OUTCOME .*\n`+
		`\S+Z +2 +SUCCESS +CP-1 +B1 +9998-12-31 +`+id+` +-\n\S+Z +2 +SUCCESS .* `+again+` +`+id+`\n$`, got.stdout)
	f := func(code int, id string) {
		t.Helper()
		got := try(t, t.Context(), "trades", "", id, "--url", s.API)
		require.Equal(t, code, got.code, got)
	}
	f(exitMissing, "CLI-9")
	f(exitFailed, "not/an id?")
	f(exitFailed, "..")
	f(2, "")
}
