package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/trade"
)

// TestAnswers reads like a session with curl: every rule and every status.
func TestAnswers(t *testing.T) { t.Parallel(); on(t, testAnswers, onDev, onReal, onDynamoDB) }

func testAnswers(t *testing.T, s *deployment) {
	t.Helper()
	s.start(t)
	t.Run("accepted", s.testAccepted)
	t.Run("refused trade", s.testRefusedTrade)
	t.Run("maturity", s.testMaturity)
	t.Run("stale at once", s.testStaleAtOnce)
	t.Run("stale in flight", s.testStaleInFlight)
	t.Run("waits", s.testWaits)
	t.Run("same version twice", s.testSameVersionTwice)
	t.Run("expired", s.testExpired)
	t.Run("pages", s.testPages)
	t.Run("refused read", s.testRefusedRead)
	t.Run("refused HTTP", s.testRefusedHTTP)
	t.Run("refused bytes", s.testRefusedBytes)
	t.Run("health", s.testHealth)
	s.check(t)
	s.stop(t)
}

func (s *deployment) testAccepted(t *testing.T) {
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	tr := s.ledger.newTrade("ACC-1", 7)
	body, err := json.Marshal(DocumentOf(tr))
	require.NoError(t, err)
	p := &Post{Trade: tr, Sent: time.Now(), CorrelationID: "my-call-1"}
	a := s.call(t, http.MethodPost, "/api/v1/trades", string(body),
		"Content-Type: application/json; charset=utf-8", "X-Correlation-ID: my-call-1", "Traceparent: "+parent)
	require.Equal(t, http.StatusAccepted, a.Status, string(a.Body))
	said := a.json(t)
	require.Equal(t, []string{"request_id", "status", "trade_id", "version"}, keys(said))
	require.Equal(t, []any{"PENDING", "ACC-1", 7.0}, []any{said["status"], said["trade_id"], said["version"]})
	id, err := trade.ParseRequestID(said["request_id"].(string))
	require.NoError(t, err)
	require.Equal(t, "/api/v1/requests/"+id.String(), a.Header.Get("Location"))
	require.Regexp(t, `^[1-9][0-9]*$`, a.Header.Get("Retry-After"))
	require.Equal(t, "my-call-1", a.Header.Get("X-Correlation-ID"))
	p.Answered, p.Status, p.RequestID, p.RetryAfter = time.Now(), a.Status, id, a.Header.Get("Retry-After")
	s.ledger.Add(p)

	s.ends(t, id, trade.Success, "")
	a = s.get(t, a.Header.Get("Location"))
	said = a.json(t)
	require.Equal(t, "no-cache", a.Header.Get("Cache-Control"))
	require.Equal(t, http.StatusNotModified,
		s.call(t, http.MethodGet, "/api/v1/requests/"+id.String(), "", "If-None-Match: "+a.Header.Get("ETag")).Status)
	require.NotContains(t, said, "reason")
	for _, field := range []string{"accepted_at", "decided_at"} {
		require.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$`, said[field])
	}
	require.Equal(t, []Item{{DocumentOf(tr), false}}, s.versions(t, "ACC-1"))

	log, _, err := readLog(t.Context(), s.Endpoints)
	require.NoError(t, err)
	for _, rec := range log {
		if rec.ID == id {
			require.Equal(t, "my-call-1", rec.CorrelationID)
			require.Equal(t, parent[:35], rec.TraceParent[:35], "another trace")
			require.Equal(t, trade.DateOf(rec.AcceptedAt), rec.BusinessDate)
			return
		}
	}
	require.Fail(t, "not in the log")
}

func (s *deployment) testRefusedTrade(t *testing.T) {
	const good = `{"trade_id":"R1","version":1,"counterparty_id":"C","book_id":"B",` +
		`"maturity_date":"2099-01-01","created_date":"2026-01-01"}`
	f := func(was, becomes string, code trade.Code, fields ...string) {
		t.Helper()
		require.Contains(t, good, was)
		s.postRaw(t, strings.Replace(good, was, becomes, 1)).refused(t, http.StatusBadRequest, code, fields...)
	}
	f(`"R1"`, `""`, trade.InvalidTrade, "trade_id RANGE")
	f(`"R1"`, `"=1+1"`, trade.InvalidTrade, "trade_id FORMAT")
	f(`"R1"`, `"R\u00001"`, trade.InvalidTrade)
	f(`"R1"`, `"`+strings.Repeat("R", 65)+`"`, trade.InvalidTrade)
	f(`"R1"`, `17`, trade.InvalidTrade, "trade_id WRONG_TYPE")
	f(`"R1"`, `null`, trade.InvalidTrade, "trade_id REQUIRED")
	f(`"trade_id":"R1",`, ``, trade.InvalidTrade, "trade_id REQUIRED")
	f(`"trade_id":"R1"`, `"trade_id":"R1","trade_id":"R1"`, trade.InvalidTrade, "trade_id DUPLICATE")
	f(`"trade_id":"R1"`, `"trade_id":"R1","comment":"x"`, trade.InvalidTrade, "comment UNKNOWN")
	f(`"trade_id"`, `"Trade_ID"`, trade.InvalidTrade, "Trade_ID UNKNOWN", "trade_id REQUIRED")
	f(`"version":1`, `"version":0`, trade.InvalidTrade, "version RANGE")
	f(`"version":1`, `"version":2147483648`, trade.InvalidTrade, "version RANGE")
	f(`"version":1`, `"version":1.0`, trade.InvalidTrade, "version FORMAT")
	f(`"version":1`, `"version":"1"`, trade.InvalidTrade, "version WRONG_TYPE")
	f(`"2099-01-01"`, `"2099-02-29"`, trade.InvalidTrade, "maturity_date FORMAT")
	f(`"2099-01-01"`, `"infinity"`, trade.InvalidTrade, "maturity_date FORMAT")
	f(`"2026-01-01"`, `"0000-01-01"`, trade.InvalidTrade, "created_date FORMAT")
	f(`"version":1,"counterparty_id":"C"`, `"version":-1,"counterparty_id":" "`, trade.InvalidTrade, "version FORMAT",
		"counterparty_id FORMAT")
	f(good, ``, trade.MalformedJSON)
	f(good, `[]`, trade.MalformedJSON)
	f(good, `{"trade_id":`, trade.MalformedJSON)
	f(good, good+good, trade.MalformedJSON)
	f(good, "\ufeff"+good, trade.MalformedJSON)
	s.get(t, "/api/v1/trades/R1").refused(t, http.StatusNotFound, "NOT_FOUND")
}

func (s *deployment) testMaturity(t *testing.T) {
	today := trade.DateOf(time.Now())
	matured, last := s.ledger.newTrade("MAT-1", 1), s.ledger.newTrade("MAT-1", 1)
	matured.MaturityDate, last.MaturityDate = today-1, today
	p := s.client.Submit(t.Context(), matured)
	require.Equal(t, http.StatusBadRequest, p.Status)
	require.Equal(t, trade.MaturityInPast, p.Code)
	body, err := json.Marshal(DocumentOf(matured))
	require.NoError(t, err)
	s.postRaw(t, string(body)).refused(t, http.StatusBadRequest, trade.MaturityInPast, "maturity_date IN_PAST")
	if p := s.client.Submit(t.Context(), last); trade.DateOf(time.Now()) == today { // else midnight came in between
		require.Equal(t, http.StatusAccepted, p.Status)
		s.ends(t, p.RequestID, trade.Success, "")
	}
}

func (s *deployment) testStaleAtOnce(t *testing.T) {
	s.stored(t, s.ledger.newTrade("ST-1", 5))
	p := s.client.Submit(t.Context(), s.ledger.newTrade("ST-1", 4))
	require.Equal(t, http.StatusBadRequest, p.Status)
	require.Equal(t, trade.StaleVersion, p.Code)
	require.True(t, p.RequestID.IsZero(), "a refusal names a request")
	s.stored(t, s.ledger.newTrade("ST-1", 6))
	require.Len(t, s.versions(t, "ST-1"), 2)
}

// The worker is held back, so both versions are accepted before either is stored: the log decides (P3).
func (s *deployment) testStaleInFlight(t *testing.T) {
	hold, err := s.connect(t).Begin(t.Context())
	require.NoError(t, err)
	_, err = hold.Exec(t.Context(), `LOCK TABLE ingest_offsets IN EXCLUSIVE MODE`) // reads pass, updates wait
	require.NoError(t, err)
	v1 := s.submit(t, s.ledger.newTrade("FL-1", 1)) // the worker waits with this one,
	v2 := s.submit(t, s.ledger.newTrade("FL-1", 2)) // its client has fetched this one, and the rest gathers to one batch
	v5 := s.submit(t, s.ledger.newTrade("FL-1", 5))
	v3 := s.submit(t, s.ledger.newTrade("FL-1", 3))
	for _, p := range []*Post{v5, v3} {
		a := s.get(t, "/api/v1/requests/"+p.RequestID.String())
		require.Equal(t, "PENDING", a.json(t)["status"], string(a.Body))
		require.NotContains(t, a.json(t), "decided_at")
		require.NotEmpty(t, a.Header.Get("Retry-After"))
	}
	require.Equal(t, []trade.RequestID{v1.RequestID, v2.RequestID, v5.RequestID, v3.RequestID}, s.pendingOf(t, "FL-1"))
	require.NoError(t, hold.Rollback(t.Context()))

	s.ends(t, v5.RequestID, trade.Success, "")
	s.ends(t, v3.RequestID, trade.Failed, trade.StaleVersion)
	said := s.get(t, "/api/v1/requests/"+v3.RequestID.String()).json(t)
	require.Equal(t, "version 3 is lower than version 5, which is stored", said["detail"])
	require.Equal(t, []any{5.0, v5.RequestID.String()}, []any{said["stored_version"], said["stored_by"]})
	require.Equal(t, []Item{{DocumentOf(v1.Trade), false}, {DocumentOf(v2.Trade), false}, {DocumentOf(v5.Trade), false}},
		s.versions(t, "FL-1"))
}

func (s *deployment) testSameVersionTwice(t *testing.T) {
	first := s.stored(t, s.ledger.newTrade("TW-1", 2))
	last := s.stored(t, s.ledger.newTrade("TW-1", 2))
	history := s.history(t, "TW-1")
	require.Equal(t, []any{first.RequestID.String(), nil, last.RequestID.String(), first.RequestID.String()},
		[]any{history[0]["request_id"], history[0]["replaced"], history[1]["request_id"], history[1]["replaced"]})
	require.Equal(t, []Item{{DocumentOf(first.Trade), false}}, s.asOf(t, "TW-1", history[0]["decided_at"].(string)))
	require.Equal(t, []Item{{DocumentOf(last.Trade), false}}, s.asOf(t, "TW-1", history[1]["decided_at"].(string)))
	s.get(t, "/api/v1/trades/TW-1?as_of=2026-01-01T00:00:00Z").refused(t, 404, "NOT_FOUND")
	require.Equal(t, []Item{{DocumentOf(last.Trade), false}}, s.versions(t, "TW-1"))
	var journalled int
	row := s.connect(t).QueryRow(t.Context(),
		`SELECT count(*) FROM journal WHERE trade_id = 'TW-1' AND version = 2 AND outcome = 'SUCCESS'`)
	require.NoError(t, row.Scan(&journalled))
	require.Equal(t, 2, journalled)
}

// A record accepted yesterday is judged by yesterday's date (C8). Today it is shown as expired.
func (s *deployment) testExpired(t *testing.T) {
	yesterday := time.Now().Add(-24 * time.Hour)
	old := s.ledger.newTrade("EXP-1", 1)
	old.MaturityDate = trade.DateOf(yesterday)
	s.inject(t, s.record(old, yesterday))
	s.drained(t)
	require.Equal(t, []Item{{DocumentOf(old), true}}, s.versions(t, "EXP-1"))
	s.stored(t, s.ledger.newTrade("EXP-1", 2))
	items := s.versions(t, "EXP-1")
	require.Equal(t, []bool{true, false}, []bool{items[0].Expired, items[1].Expired})
	require.Equal(t, items, s.list(t, "trade_id_prefix=EXP-"))
	require.Equal(t, items[:1], s.list(t, "trade_id_prefix=EXP-&expired=true"))
	require.Equal(t, items[1:], s.list(t, "trade_id_prefix=EXP-&expired=false&counterparty_id="+items[1].CounterpartyID))
	require.Equal(t, items[1:], s.list(t, "trade_id_prefix=EXP-&latest=true&book_id="+items[1].BookID))
	require.Empty(t, s.list(t, "trade_id_prefix=EXP-&latest=true&expired=true"), "the latest has not expired")
	require.Equal(t, items[:1], s.list(t, "trade_id_prefix=EXP-&maturity_to="+old.MaturityDate.String()))
}

func (s *deployment) testPages(t *testing.T) {
	records := make([]*kgo.Record, 0, 1_050)
	for i := range cap(records) { // past the server: this is about reading
		records = append(records, s.record(s.ledger.newTrade(fmt.Sprintf("PAGE-%04d", i/2), int32(i%2)+1), time.Now()))
	}
	s.inject(t, records...)
	s.drained(t)
	f := func(query string, size int) {
		t.Helper()
		var got []trade.Key
		for cursor, pages := "", 0; ; pages++ {
			require.Less(t, pages, 100, "the pages never end")
			a := s.get(t, "/api/v1/trades?"+strings.TrimPrefix(query+cursor, "&"))
			require.Equal(t, http.StatusOK, a.Status, string(a.Body))
			var page struct {
				Items      []Item  `json:"items"`
				NextCursor *string `json:"next_cursor"`
			}
			require.NoError(t, json.Unmarshal(a.Body, &page))
			for _, item := range page.Items {
				got = append(got, trade.Key{TradeID: item.TradeID, Version: item.Version})
			}
			if page.NextCursor == nil || *page.NextCursor == "" {
				require.LessOrEqual(t, len(page.Items), size)
				break
			}
			require.Len(t, page.Items, size)
			cursor = "&cursor=" + *page.NextCursor
		}
		ev := &Evidence{}
		require.NoError(t, ev.readRows(t.Context(), s.connect(t)))
		require.Len(t, got, len(ev.Rows), "each row once")
		for i := range got[1:] {
			require.True(t, got[i].Less(got[i+1]), "%v is shown before %v", got[i], got[i+1])
		}
	}
	f("limit=1000", 1000)
	f("limit=331", 331)
	f("", 100)
	for media, lines := range map[string]int{"text/csv": len(records) + 1, "application/x-ndjson": len(records)} {
		a := s.call(t, http.MethodGet, "/api/v1/trades?trade_id_prefix=PAGE-", "", "Accept: "+media)
		require.Equal(t, http.StatusOK, a.Status)
		require.Equal(t, lines, strings.Count(string(a.Body), "\n"), "%s", media)
	}
}

func (s *deployment) testRefusedRead(t *testing.T) {
	f := func(path string, status int, code trade.Code) {
		t.Helper()
		s.get(t, path).refused(t, status, code)
	}
	f("/api/v1/trades?limit=0", 400, "INVALID_QUERY")
	f("/api/v1/trades?limit=1001", 400, "INVALID_QUERY")
	f("/api/v1/trades?limit=ten", 400, "INVALID_QUERY")
	f("/api/v1/trades?limit=1&limit=2", 400, "INVALID_QUERY")
	f("/api/v1/trades?offset=10", 400, "INVALID_QUERY")
	f("/api/v1/trades?expired=yes", 400, "INVALID_QUERY")
	f("/api/v1/trades?cursor=AAAA", 400, "INVALID_CURSOR")
	f("/api/v1/trades?cursor="+strings.Repeat("A", 600), 400, "INVALID_CURSOR")
	f("/api/v1/trades/NOBODY", 404, "NOT_FOUND")
	f("/api/v1/trades/no%20body", 400, "INVALID_PATH")
	f("/api/v1/trades/=body", 400, "INVALID_TRADE_ID")
	f("/api/v1/requests/"+trade.NewRequestID(time.Now()).String(), 404, "NOT_FOUND")
	f("/api/v1/requests/"+strings.ToUpper(trade.NewRequestID(time.Now()).String()), 400, "INVALID_REQUEST_ID")
	f("/api/v1/requests/17", 400, "INVALID_REQUEST_ID")
	f("/api/v1/nothing", 404, "NOT_FOUND")
	f("/", 404, "NOT_FOUND")
	s.call(t, http.MethodGet, "/api/v1/trades", "{}").refused(t, 400, "UNEXPECTED_BODY")
}

func (s *deployment) testRefusedHTTP(t *testing.T) {
	body, err := json.Marshal(DocumentOf(s.ledger.newTrade("HTTP-1", 1)))
	require.NoError(t, err)
	good := string(body)
	f := func(method, path, body string, status int, code trade.Code, headers ...string) answer {
		t.Helper()
		a := s.call(t, method, path, body, headers...)
		a.refused(t, status, code)
		return a
	}
	const trades, media = "/api/v1/trades", "Content-Type: application/json"
	f("POST", trades, good, 415, "UNSUPPORTED_MEDIA_TYPE")
	f("POST", trades, good, 415, "UNSUPPORTED_MEDIA_TYPE", "Content-Type: text/plain")
	f("POST", trades, good, 415, "UNSUPPORTED_MEDIA_TYPE", "Content-Type: application/json; charset=latin1")
	f("POST", trades, good, 415, "UNSUPPORTED_MEDIA_TYPE", media, "Content-Encoding: gzip")
	f("POST", trades, good, 400, "INVALID_IDEMPOTENCY_KEY", media, "Idempotency-Key: two words")
	f("POST", trades, good+strings.Repeat(" ", 16<<10), 413, "BODY_TOO_LARGE", media)
	f("GET", trades, "", 431, "HEADERS_TOO_LARGE", "X-Long: "+strings.Repeat("x", 16<<10))
	require.Equal(t, "GET, HEAD, POST", f("PUT", trades, good, 405, "METHOD_NOT_ALLOWED", media).Header.Get("Allow"))
	require.Equal(t, "GET, HEAD", f("DELETE", trades+"/HTTP-1", "", 405, "METHOD_NOT_ALLOWED").Header.Get("Allow"))
	require.Equal(t, "GET, HEAD", f("POST", "/api/v1/health", "", 405, "METHOD_NOT_ALLOWED").Header.Get("Allow"))
	s.get(t, trades+"/HTTP-1").refused(t, 404, "NOT_FOUND")
}

// What a well-behaved HTTP client can't even send.
func (s *deployment) testRefusedBytes(t *testing.T) {
	f := func(request string, status string) {
		t.Helper()
		conn, err := net.DialTimeout("tcp", strings.TrimPrefix(s.API, "http://"), time.Minute)
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
		_, err = conn.Write([]byte(strings.ReplaceAll(request, "\n", "\r\n")))
		require.NoError(t, err)
		line, err := bufio.NewReader(conn).ReadString('\n')
		require.NoError(t, err, "no answer to %.60q", request)
		require.Contains(t, line, "HTTP/1.1 "+status+" ", "%.60q", request)
	}
	f("GET //api/v1/trades HTTP/1.1\nHost: x\n\n", "400")
	f("GET /api/v1/trades/..%2ftrades HTTP/1.1\nHost: x\n\n", "400")
	f("GET /api/v1/../v1/trades HTTP/1.1\nHost: x\n\n", "400")
	f("GET /api/v1/trades/%00 HTTP/1.1\nHost: x\n\n", "400")
	f("POST /api/v1/trades HTTP/1.1\nHost: x\nContent-Type: application/json\nContent-Length: 2\n"+
		"Transfer-Encoding: chunked\n\n2\n{}\n0\n\n", "400")
	f("POST /api/v1/trades HTTP/1.1\nHost: x\nContent-Type: application/json\nContent-Length: 99999999999\n\n", "413")
	f("NONSENSE\n\n", "400")
}

func (s *deployment) testHealth(t *testing.T) {
	a := s.get(t, "/api/v1/health")
	require.Equal(t, http.StatusOK, a.Status, string(a.Body))
	checks, _ := a.json(t)["checks"].(map[string]any)
	require.Subset(t, keys(checks), []string{"api", "database", "kafka", "request_store"}, string(a.Body))
	for _, path := range []string{"/livez", "/readyz", "/metrics"} {
		require.Equal(t, http.StatusOK, s.get(t, path).Status, path)
		require.True(t, answers(t, s.Worker+path), "worker %s", path)
	}
	require.Contains(t, string(s.get(t, "/metrics").Body), "\ntradestore_")
}
