package cmd

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"tradestore/test/program"
	"tradestore/trade"
)

// book is a service that notes what it is sent and answers as it is told, by trade id and the number of the try.
type book struct {
	URL string
	mu  sync.Mutex // protects what follows
	got []string   // "trade/version key" in the order of arrival
}

func newBook(t *testing.T, answer func(trade string, try int) string) *book {
	t.Helper()
	b := new(book)
	tries := map[string]int{}
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		it := newItem(0, text)
		name := fmt.Sprintf("%s/%d", it.tradeID, it.version)
		if r.Method == http.MethodGet {
			name = "status"
		}
		b.mu.Lock()
		b.got = append(b.got, name+" "+r.Header.Get("Idempotency-Key"))
		try := tries[name]
		tries[name]++
		b.mu.Unlock()
		code, body, _ := strings.Cut(answer(name, try), " ")
		if code == "hangup" {
			panic(http.ErrAbortHandler)
		}
		var status int
		_, _ = fmt.Sscan(code, &status)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(service.Close)
	b.URL = service.URL
	return b
}

func (b *book) arrived() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.got)
}

const (
	accepted = `202 {"status":"PENDING","request_id":"` + someID + `"}`
	stored   = `200 {"status":"SUCCESS","request_id":"` + someID + `"}`
	notNow   = `503 {"status":503,"code":"QUEUE_FULL"}`
)

// results reads a results file: the last result of each line.
func resultsOf(t *testing.T, path string) (r runHeader, last map[int64]result) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	require.NoError(t, json.Unmarshal([]byte(lines[0]), &r))
	last = map[int64]result{}
	for _, line := range lines[1:] {
		var one result
		require.NoError(t, json.Unmarshal([]byte(line), &one), line)
		last[one.Line] = one
	}
	return r, last
}

func TestSubmitEndsWithACode(t *testing.T) {
	f := func(code int, shown, answer, input string, args ...string) {
		t.Helper()
		b := newBook(t, func(name string, _ int) string {
			if name == "status" {
				return `200 {"status":"FAILED","reason":"STALE_VERSION","request_id":"` + someID + `"}`
			}
			return answer
		})
		got := try(t, t.Context(), "submit", input, append([]string{"-", "--url", b.URL}, args...)...)
		require.Equal(t, code, got.code, got)
		require.Contains(t, got.stdout+got.stderr, shown)
	}
	one := tradeJSON("T1", 1)
	f(0, "accepted  1", accepted, one)
	f(0, "stored  1", stored, one, "--wait")
	f(0, "lines  0", accepted, "")
	f(exitFailed, "line 1: FAILED STALE_VERSION", accepted, one, "--wait")
	f(exitFailed, "line 1: REFUSED INVALID_TRADE version: too high; book_id: missing",
		`400 {"code":"INVALID_TRADE","errors":[{"field":"version","detail":"too high"},`+
			`{"field":"book_id","detail":"missing"}]}`, one)
	f(exitFailed, "line 1: REFUSED", `403 {"status":"of a gateway"}`, one)
	f(exitFailed, "line 2: UNREADABLE  not JSON", accepted, one+"\n{\n")
	f(exitUnknown, "not an answer of Trade Store", "200 <html>", one)
	f(exitUnknown, "not an answer of Trade Store", `202 {"status":"PENDING","request_id":"../x"}`, one)
	f(exitUnknown, "NOT FINISHED: no usable answer for 1ms (--give-up-after)", notNow, one, "--give-up-after", "1ms")
	f(exitUnknown, "connection refused", "", one, "--url", "http://127.0.0.1:1", "--give-up-after", "1ms")
	f(exitUsage, "--format says it", accepted, "hello")
	f(exitUsage, "--format", accepted, "hello", "--format", "xml")
	f(exitUsage, "--connections: 0 is not", accepted, one, "--connections", "0")
	f(exitUsage, "--give-up-after: 0s", accepted, one, "--give-up-after", "0s")
	f(exitUsage, "--results has to name the file", accepted, one, "--resume")
	f(exitUsage, "no such file", accepted, one, "--resume", "--results", "/nowhere/results")
	f(exitFailed, `\u001b[2J`, `400 {"code":"\u001b[2J","detail":"\u009b"}`, one)
	f(exitFailed, `"\u001b[2J": 1`, `400 {"code":"\u001b[2J"}`, one, "--json")
}

// Whatever goes wrong, the repeat has the same key, other trades go on, and those of one id never overtake each other.
func TestRepeatsKeepKeyAndOrder(t *testing.T) {
	faults := []string{"hangup", notNow, "502 <html>", `429 {"code":"TOO_MANY_REQUESTS"}`,
		`409 {"code":"REQUEST_IN_PROGRESS","request_id":"` + someID + `"}`,
		`500 {"code":"INTERNAL"}`, `408 {"code":"REQUEST_TIMEOUT"}`}
	b := newBook(t, func(name string, try int) string {
		version := 0
		if n, _ := fmt.Sscanf(name, "BAD/%d", &version); n == 1 && try == 0 && version <= len(faults) {
			return faults[version-1]
		}
		return accepted
	})
	var lines []string
	for version := range 20 {
		for _, id := range []string{"A", "B", "BAD"} {
			lines = append(lines, tradeJSON(id, version+1))
		}
	}
	path := filepath.Join(t.TempDir(), "results")
	got := try(t, t.Context(), "submit", strings.Join(lines, "\n"), "-", "--url", b.URL, "--results", path,
		"--connections", "4")
	require.Equal(t, 0, got.code, got)

	r, last := resultsOf(t, path)
	require.Len(t, last, len(lines))
	highest, repeats := map[string]int64{}, 0
	keys := map[string]string{}
	for _, arrival := range b.arrived() {
		var id, key string
		var version int64
		_, err := fmt.Sscanf(strings.ReplaceAll(arrival, "/", " "), "%s %d %s", &id, &version, &key)
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(key, r.Name+"-"), key)
		require.GreaterOrEqual(t, version, highest[id], "%s overtook", arrival)
		if version == highest[id] {
			repeats++
			require.Equal(t, keys[id], key)
		}
		highest[id], keys[id] = version, key
	}
	require.Equal(t, len(faults), repeats)
	require.Equal(t, map[string]int64{"A": 20, "B": 20, "BAD": 20}, highest)
}

func TestOnlyLinesWithoutAnAnswerAreRepeated(t *testing.T) {
	file := filepath.Join(t.TempDir(), "trades.ndjson")
	lines := []string{tradeJSON("T1", 1), tradeJSON("T2", 1), "{", tradeJSON("T3", 1), tradeJSON("T4", 1)}
	require.NoError(t, os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600))
	b := newBook(t, func(name string, try int) string {
		switch {
		case name == "T2/1":
			return `400 {"code":"STALE_VERSION"}`
		case name == "T4/1" && try == 0:
			return notNow
		case name == "status":
			return stored
		}
		return accepted
	})
	submit := func(args ...string) ran {
		return try(t, t.Context(), "submit", "", append([]string{file, "--url", b.URL, "--connections", "1"}, args...)...)
	}
	got := submit("--give-up-after", "1ns")
	require.Equal(t, exitUnknown, got.code, got)
	require.Contains(t, got.stdout, "go on with: tradestore submit "+file+" --resume --url "+b.URL)
	results := file + ".results.ndjson"
	r, last := resultsOf(t, results)
	require.Equal(t, []trade.Status{trade.Pending, refused, unreadable, trade.Pending, unknown},
		[]trade.Status{last[1].Status, last[2].Status, last[3].Status, last[4].Status, last[5].Status})

	got = submit()
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.stderr, "exists: --resume goes on with that run")
	before := len(b.arrived())
	half, err := os.OpenFile(results, os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	_, err = half.WriteString(`{"line":5,"stat`) // a kill in the middle of a write
	require.NoError(t, err)
	require.NoError(t, half.Close())
	got = submit("--resume", "--json")
	require.Equal(t, exitFailed, got.code, got)
	require.Equal(t, []string{"T4/1 " + r.key(5)}, b.arrived()[before:])
	var sum summary
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &sum))
	require.True(t, sum.Finished)
	require.Equal(t, []int64{5, 3}, []int64{sum.Lines, sum.Before})
	require.Equal(t, int64(1), sum.Statuses[refused]["STALE_VERSION"])
	require.Equal(t, int64(1), sum.Statuses[unreadable][""])
	require.Equal(t, int64(3), sum.Statuses[trade.Pending][""])

	before = len(b.arrived())
	got = submit("--resume", "--wait") // what was accepted is asked for under its key, and followed
	require.Equal(t, exitFailed, got.code, got)
	require.Len(t, b.arrived()[before:], 6)
	_, last = resultsOf(t, results)
	require.Equal(t, trade.Success, last[1].Status)
	before = len(b.arrived())
	require.Equal(t, exitFailed, submit("--resume", "--wait").code)
	require.Len(t, b.arrived(), before)

	for _, broken := range []string{"", "{}\n", `{"run":"x"}` + "\n", "hello",
		`{"run":"` + someID + `","started":"` + time.Now().UTC().Format(time.RFC3339) + `"}` + "\n{}\n",
		`{"run":"` + someID + `","started":"2020-01-01T00:00:00Z"}` + "\n"} {
		require.NoError(t, os.WriteFile(results, []byte(broken), 0o600))
		got = submit("--resume")
		require.Equal(t, exitUsage, got.code, broken)
		require.Contains(t, got.stderr, "cannot resume from")
	}
}

// Ctrl-C: the answer under way is written down, nothing else is sent, and the way to go on is shown.
func TestInterruptFinishesWhatIsUnderWay(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	b := newBook(t, func(string, int) string { interrupt(); return accepted })
	path := filepath.Join(t.TempDir(), "my results")
	got := try(t, ctx, "submit", tradeJSON("T1", 1)+"\n"+tradeJSON("T1", 2)+"\n"+tradeJSON("T1", 3), "-", "--url", b.URL,
		"--results", path)
	require.Equal(t, exitUnknown, got.code, got)
	require.Contains(t, got.stdout,
		"NOT FINISHED: it was interrupted\ngo on with: tradestore submit - --resume --results '"+path+"'")
	_, last := resultsOf(t, path)
	require.Len(t, last, 1)
	require.Equal(t, trade.Pending, last[1].Status)

	idle, _ := io.Pipe() // nobody ever writes
	submit, _, err := Parse([]string{"submit", "-", "--format", "ndjson", "--url", b.URL}, io.Discard, io.Discard)
	require.NoError(t, err)
	p := &process{stdin: idle, stdout: io.Discard, stderr: io.Discard}
	require.ErrorContains(t, submit.run(ctx, p), "ended before anything was sent")
}

// kill -9 in the middle, twice, then to the end: each line is stored once.
func testKilledAndResumed(t *testing.T, s liveStack) {
	const lines = 600
	file := filepath.Join(t.TempDir(), "trades.csv")
	var text strings.Builder
	text.WriteString(header)
	for i := range lines {
		fmt.Fprintf(&text, "KILL-%d,%d,CP-1,B1,9998-12-31,2026-01-02\n", i%100, i/100+1)
	}
	require.NoError(t, os.WriteFile(file, []byte(text.String()), 0o600))
	results := file + ".results.ndjson"
	for _, upTo := range []int{50, 250} {
		args := []string{"submit", file, "--url", s.API, "--connections", "4"}
		if upTo > 50 {
			args = append(args, "--resume")
		}
		child := program.Start(t, "submit", program.Build(t), nil, args...)
		require.Eventually(t, func() bool { return countLines(results) > upTo }, patience, time.Millisecond)
		require.True(t, child.Running(), child.Tail())
		child.Kill()
	}
	got := try(t, t.Context(), "submit", "", file, "--url", s.API, "--resume", "--wait")
	require.Equal(t, 0, got.code, got)
	_, last := resultsOf(t, results)
	require.Len(t, last, lines)
	for _, r := range last {
		require.Equal(t, trade.Success, r.Status, r)
	}
	db, err := pgx.Connect(t.Context(), s.Database)
	require.NoError(t, err)
	defer db.Close(t.Context())
	var stored, decided int
	require.NoError(t, db.QueryRow(t.Context(), `SELECT count(*) FROM trades WHERE trade_id LIKE 'KILL-%'`).Scan(&stored))
	require.NoError(t, db.QueryRow(t.Context(),
		`SELECT count(*) FROM journal WHERE trade_id LIKE 'KILL-%'`).Scan(&decided))
	require.Equal(t, lines, stored)
	require.Equal(t, lines, decided, "no line was submitted twice")
}

func countLines(path string) (n int) {
	file, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer file.Close()
	for text := bufio.NewScanner(file); text.Scan(); {
		n++
	}
	return n
}

// The service judges every line, and each answer has its place.
func testSubmitOfAllSorts(t *testing.T, s liveStack) {
	file := filepath.Join(t.TempDir(), "trades.json")
	require.NoError(t, os.WriteFile(file,
		[]byte("[\n"+strings.Join([]string{tradeJSON("SORTS", 2), tradeJSON("SORTS", 1), `{"trade_id":"SORTS"}`, "3",
			strings.Replace(tradeJSON("SORTS", 3), "9998", "2020", 1)}, ",\n")+"]"), 0o600))
	got := try(t, t.Context(), "submit", "", file, "--url", s.API, "--wait")
	require.Equal(t, exitFailed, got.code, got)
	_, last := resultsOf(t, file+".results.ndjson")
	codes := map[int64]string{}
	for line, r := range last {
		codes[line] = r.Code
	}
	require.Equal(t, map[int64]string{1: "", 2: "STALE_VERSION", 3: "INVALID_TRADE", 4: "MALFORMED_JSON",
		5: "MATURITY_IN_PAST"}, codes)
	require.Equal(t, []int64{1, 2, 3, 4, 5}, slices.Sorted(maps.Keys(last)))
	require.NotEmpty(t, last[1].RequestID)
	require.Contains(t, got.stdout, "refused  4")
}
