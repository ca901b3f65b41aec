package server

import (
	"bufio"
	"encoding/csv"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

// exported is a server with 2,500 trades, and how to ask for an export of them.
func exported(t *testing.T, change func(*Config, *Deps)) (a *api, get func(media string) *http.Response) {
	a = start(t, change)
	a.stores.set(func() {
		for i := range 2500 {
			a.stores.stored = append(a.stores.stored, tradeOf(fmt.Sprintf("T%04d", i), 1))
		}
	})
	return a, func(media string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+a.addr+tradesPath, nil)
		require.NoError(t, err)
		req.Header.Set("Accept", media)
		resp, err := a.client.Do(req)
		require.NoError(t, err)
		t.Cleanup(func() { _ = resp.Body.Close() })
		return resp
	}
}

func TestExports(t *testing.T) {
	t.Parallel()
	a, get := exported(t, nil)
	resp := get("text/csv")
	require.Equal(t, []string{"chunked"}, resp.TransferEncoding)
	require.Equal(t, "text/csv; charset=utf-8; header=present", resp.Header.Get("Content-Type"))
	rows, err := csv.NewReader(resp.Body).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 2501)
	header := strings.Fields("trade_id version counterparty_id book_id maturity_date created_date expired")
	require.Equal(t, header, rows[0])
	require.Equal(t, []string{"T2499", "1", "CP-1", "B1", "2026-11-22", "2026-11-21", "false"}, rows[2500])

	lines := bufio.NewScanner(get("application/x-ndjson").Body)
	n := 0
	for ; lines.Scan(); n++ {
		require.Equal(t, strings.TrimSuffix(tradeJSON(fmt.Sprintf("T%04d", n), 1), "}")+`,"expired":false}`, lines.Text())
	}
	require.Equal(t, 2500, n)
	assert.Equal(t, 200, a.send("HEAD", tradesPath, "", "Accept: text/csv").status)
	a.send("GET", tradesPath+"?limit=1", "", "Accept: text/csv").problem(t, 400, InvalidQuery)
	assert.Contains(t, a.send("GET", tradesPath+"?trade_id_prefix=T000", "", "Accept: text/csv").body, "T0009,1,")
	assert.Zero(t, a.srv.exports.count(), "the room of each is free again")
	counted(t, 4, a.srv.m.exports[exportWhole])
}

// What can't be finished must not look whole.
func TestABrokenExportIsSeen(t *testing.T) {
	t.Parallel()
	a, get := exported(t, nil)
	reads := 0
	a.stores.set(func() {
		a.stores.onList = func() error {
			if reads++; reads > 2 {
				return errDown
			}
			return nil
		}
	})
	rows, err := io.ReadAll(get("application/x-ndjson").Body)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.NotEmpty(t, rows)
	require.Eventually(t, func() bool { return a.srv.exports.count() == 0 }, giveUpAfter, giveUpAfter/1000)
	a.send("GET", tradesPath, "", "Accept: text/csv").problem(t, 503, StoreUnavailable) // nothing was said yet
	require.Zero(t, a.srv.exports.count())
	counted(t, 2, a.srv.m.exports[exportFailed])
}

func TestExportsAreBounded(t *testing.T) {
	t.Parallel()
	a, get := exported(t, func(cfg *Config, _ *Deps) { cfg.MaxExports = 1 })
	held, release := make(chan struct{}), make(chan struct{})
	reads := 0
	a.stores.set(func() {
		a.stores.onList = func() error {
			if reads++; reads == 2 {
				close(held)
				<-release
			}
			return nil
		}
	})
	resp := get("text/csv")
	<-held
	r := a.send("GET", tradesPath, "", "Accept: text/csv")
	assert.Contains(t, r.problem(t, 503, TooManyExports)["detail"], "at most 1 exports")
	assert.Equal(t, "5", r.header.Get("Retry-After"))
	close(release)
	_, err := io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
}

// A client that takes nothing loses its place soon, and another one gets it.
func TestASlowClientLosesItsExport(t *testing.T) {
	t.Parallel()
	a, _ := exported(t, func(cfg *Config, _ *Deps) {
		cfg.MaxExports, cfg.ExportPace, cfg.ExportSlack = 1, time.Nanosecond, 100*time.Millisecond
	})
	a.stores.set(func() {
		for i := range 100_000 { // more than sockets hold
			a.stores.stored = append(a.stores.stored, tradeOf(fmt.Sprintf("U%05d", i), 1))
		}
	})
	slow, err := net.Dial("tcp", a.addr)
	require.NoError(t, err)
	defer slow.Close()
	require.NoError(t, slow.(*net.TCPConn).SetReadBuffer(4096))
	_, err = io.WriteString(slow, message("GET "+tradesPath+" HTTP/1.1\nAccept: text/csv", ""))
	require.NoError(t, err)
	eventually(t, func() bool { return testutil.ToFloat64(a.srv.m.exports[exportSlow]) == 1 })
	require.Zero(t, a.srv.exports.count())
	assert.Contains(t, a.send("GET", tradesPath+"?trade_id_prefix=T000", "", "Accept: text/csv").body, "T0009,1,")
	counted(t, 1, a.srv.m.exports[exportWhole])
	_, err = io.Copy(io.Discard, slow)
	require.NoError(t, err)
}

// What the store takes is not the fault of the client, and a client that goes on may go on for as long as it needs.
func TestAnExportMayTakeAsLongAsItNeeds(t *testing.T) {
	t.Parallel()
	const slack = time.Second
	a, get := exported(t, func(cfg *Config, _ *Deps) {
		cfg.WriteTimeout, cfg.ExportPace, cfg.ExportSlack = slack, slack, slack
	})
	a.stores.set(func() { a.stores.onList = func() error { time.Sleep(slack); return nil } }) // what a store takes
	rows, err := csv.NewReader(get("text/csv").Body).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 2501)
}

func TestWantedMedia(t *testing.T) {
	t.Parallel()
	f := func(accept, want string) {
		t.Helper()
		assert.Equal(t, want, preferred(accept, mediaJSON, mediaCSV, mediaNDJSON))
	}
	f("", mediaJSON)
	f("*/*", mediaJSON)
	f("image/png", mediaJSON)
	f("text/csv", mediaCSV)
	f("Text/CSV; header=present", mediaCSV)
	f("text/*", mediaCSV)
	f("application/x-ndjson, */*;q=0.1", mediaNDJSON)
	f("text/csv;q=0.5, application/json", mediaJSON)
	f("text/csv, application/json", mediaJSON)
	f("text/csv;q=0, */*", mediaJSON)
	f("text/csv;q=x", mediaJSON)
}

// An identifier that the decoder takes is no formula, and needs no quotes.
func TestCSVNeedsNoQuotes(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"=1", "+1", "-1", "@a", "\ta", `a"b`, "a,b", "a\r\nb", "a;b"} {
		_, invalid := trade.Decode([]byte(strings.Replace(tradeJSON("T1", 1), `"B1"`, fmt.Sprintf("%q", id), 1)))
		assert.NotNil(t, invalid, id)
	}
}
