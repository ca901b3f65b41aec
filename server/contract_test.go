package server

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/internal/openapi"
	"tradestore/internal/openapi/contract"
	"tradestore/trade"
)

// The description lists what the router answers, and nothing else.
func TestRoutesAreDescribed(t *testing.T) {
	t.Parallel()
	described, err := contract.Load()
	require.NoError(t, err)
	var inDocument, inRouter []string
	for _, op := range described.Operations() {
		inDocument = append(inDocument, op.Method+" "+op.Path)
		if op.Method == http.MethodGet {
			inDocument = append(inDocument, "HEAD "+op.Path)
		}
	}
	for method, paths := range start(t, nil).srv.router.List() {
		for _, path := range paths {
			if method != "*" { // the 405 of every path
				inRouter = append(inRouter, method+" "+path)
			}
		}
	}
	assert.ElementsMatch(t, inRouter, inDocument)
}

func TestProblemCodesAreDescribed(t *testing.T) {
	t.Parallel()
	document, err := openapi3.NewLoader().LoadFromData(openapi.YAML)
	require.NoError(t, err)
	var codes []any
	for code := range problemTypes {
		codes = append(codes, string(code))
	}
	assert.ElementsMatch(t, codes, document.Components.Schemas["ProblemCode"].Value.Enum)
}

// Each operation gives each answer that is described for it. What stands for all in `default` is shown by 431; the
// tests of the wire show 405, 408, 429 and 500. The client checks every exchange.
func TestEveryDescribedAnswerIsGiven(t *testing.T) {
	t.Parallel()
	var down, unverified atomic.Bool
	a := start(t, func(cfg *Config, deps *Deps) {
		cfg.ProbeMaxAge = time.Nanosecond
		deps.Verified = func() error {
			if unverified.Load() {
				return errDown
			}
			return nil
		}
		deps.Checks = []Check{{Name: "database", Probe: func(context.Context) error {
			if down.Load() {
				return errDown
			}
			return nil
		}}}
	})
	described, err := contract.Load()
	require.NoError(t, err)
	a.stores.set(func() { a.stores.stored = []trade.Trade{tradeOf("T1", 1)} })

	a.stores.set(func() { a.stores.submitted = []trade.HistoryEntry{postOf(trade.NewRequestID(testNow), 1)} })
	a.get(historyOf("T2"))

	waits := a.later(func() reply { return a.post(tradeJSON("T1", 1), preferWait) })
	a.waiting(1)
	var ended trade.RequestID
	a.stores.set(func() { ended = slices.Collect(maps.Keys(a.stores.opened))[0] })
	a.end(ended, trade.Success)
	assert.Equal(t, 200, (<-waits).status)
	a.srv.endWaits() // streams end at once
	a.get(requestsPath + ended.String() + "/events")
	a.send("GET", requestsPath+ended.String()+"/events", "", "Last-Event-ID: success")
	a.get(requestsPath + trade.NewRequestID(testNow).String() + "/events")
	a.get(tradeEvents)
	const key = "Idempotency-Key: k"
	a.post(tradeJSON("T1", 1), key).accepted(t)
	a.post(tradeJSON("T1", 1), key)
	a.post(tradeJSON("T1", 2), key)
	a.post(strings.Repeat(" ", 16<<10+1))
	a.send("POST", tradesPath, "{}")
	a.bulk([]string{tradeJSON("T1", 1)}).items(t, 1)
	a.send("POST", bulkPath, "[]")
	a.send("POST", bulkPath, strings.Repeat("1\n", 1001), ndjsonType)
	a.get(requestsPath + trade.NewRequestID(testNow).String())
	a.get(tradesPath + "/T2")
	a.get("/docs/x")
	paths := strings.NewReplacer("{trade_id}", "T1", "{request_id}", ended.String(), "{asset}", "init.js",
		tradeEvents, tradeEvents+"?trade_id=T1")
	for _, op := range described.Operations() {
		path := paths.Replace(op.Path)
		a.send(op.Method, path, "{}", jsonType)
		a.send(op.Method, path, "", "X-Long: "+strings.Repeat("x", 8<<10))
		if op.Method == http.MethodGet {
			etag := a.get(path).header.Get("ETag")
			a.send(http.MethodGet, path, "", "If-None-Match: "+etag)
		}
	}
	unverified.Store(true)
	a.post(tradeJSON("T1", 1)).noEffect(t, NotReady)
	a.bulk([]string{tradeJSON("T1", 1)}).items(t, 1)[0].noEffect(NotReady)
	unverified.Store(false)
	down.Store(true)
	a.stores.set(func() {
		a.stores.onRead = func() error { return errDown }
		a.stores.onOpen = all(trade.ErrNotOpened)
	})
	a.post(tradeJSON("T1", 1)).noEffect(t, RequestStoreUnavailable)
	a.srv.bodies.mu.Lock()
	a.srv.bodies.limit = 0
	a.srv.bodies.mu.Unlock()
	a.bulk([]string{tradeJSON("T1", 1)}).noEffect(t, QueueFull)
	for _, op := range described.Operations() {
		if op.Method == http.MethodGet && slices.Contains(op.Statuses, "503") {
			require.Eventually(t, func() bool { return a.get(paths.Replace(op.Path)).status == 503 }, giveUpAfter,
				lagInterval/10, "%s", op.Path) // the lag is looked at once a second
		}
	}
	for _, op := range described.Operations() {
		for _, status := range op.Statuses {
			seen := a.checked.Seen(op, strings.Replace(status, "default", "431", 1))
			assert.True(t, seen, "%s %s never answered %s", op.Method, op.Path, status)
		}
	}
}

// The checker finds what it is there for.
func TestContractFindsBreaches(t *testing.T) {
	t.Parallel()
	described, err := contract.Load()
	require.NoError(t, err)
	const id = "019e7c1a-5b7e-7c40-9f4e-3a1f0c2d4b6a"
	good := func() *contract.Exchange {
		return &contract.Exchange{Method: "POST", Target: tradesPath,
			Header: http.Header{"Content-Type": {mediaJSON}}, Body: []byte(tradeJSON("T1", 1)),
			Status: 202, AnswerHeader: http.Header{"Content-Type": {mediaJSON}, "X-Correlation-Id": {"c"},
				"Retry-After": {"1"}, "Location": {requestsPath + id}},
			Answer: []byte(`{"request_id":"` + id + `","status":"PENDING","trade_id":"T1","version":1}`)}
	}
	require.NoError(t, described.Check(good()))
	f := func(finds string, spoil func(*contract.Exchange)) {
		t.Helper()
		x := good()
		spoil(x)
		assert.ErrorContains(t, described.Check(x), finds)
	}
	f("is not described", func(x *contract.Exchange) { x.Status = 201 })
	f("is not described", func(x *contract.Exchange) { x.Method = "PUT" })
	f("is not described", func(x *contract.Exchange) { x.Target = "/nowhere" })
	f("is not described", func(x *contract.Exchange) { x.Target += "?dry=1" })
	f("is not described", func(x *contract.Exchange) { x.AnswerHeader.Set("Content-Type", "text/plain") })
	f("Location is missing", func(x *contract.Exchange) { x.AnswerHeader.Del("Location") })
	f("Retry-After", func(x *contract.Exchange) { x.AnswerHeader.Set("Retry-After", "soon") })
	f("additional properties", func(x *contract.Exchange) {
		x.Answer = append(x.Answer[:len(x.Answer)-1], `,"more":1}`...)
	})
	badDate := []byte(strings.Replace(tradeJSON("T1", 1), "-11-", "-13-", 1))
	f("granted, but", func(x *contract.Exchange) { x.Body = badDate })
	f("granted with header Idempotency-Key", func(x *contract.Exchange) { x.Header.Set("Idempotency-Key", "two words") })
	f("unexpected EOF", func(x *contract.Exchange) { x.Answer = []byte("{") })
}

func TestDocsPage(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	f := func(path, media string) {
		t.Helper()
		r := a.get(path)
		require.Equal(t, 200, r.status)
		assert.Equal(t, media, r.header.Get("Content-Type"))
		assert.Equal(t, openapi.ContentSecurityPolicy, r.header.Get("Content-Security-Policy"))
		assert.Equal(t, "nosniff", r.header.Get("X-Content-Type-Options"))
		assert.NotEmpty(t, r.body)

		plain := a.send("GET", path, "", "Accept-Encoding: identity")
		assert.Empty(t, plain.header.Get("Content-Encoding"))
		assert.Equal(t, r.body, plain.body, "compressed or not, it is the same")
		etag := r.header.Get("ETag")
		for etag, status := range map[string]int{etag: 304, `"x", ` + etag: 304, "*": 304, `"x"`: 200} {
			assert.Equal(t, status, a.send("GET", path, "", "If-None-Match: "+etag).status)
		}
		assert.Empty(t, a.send("HEAD", path, "").body)
		a.send("POST", path, "").problem(t, 405, MethodNotAllowed)
	}
	f("/docs", "text/html; charset=utf-8")
	f("/openapi.yaml", "application/yaml")
	f("/openapi.json", mediaJSON)
	for name, file := range openapi.Assets {
		f("/docs/"+name, file.Media)
	}
	a.get("/docs/oauth2-redirect.html").problem(t, 404, NotFound)
	a.get("/docs/").problem(t, 404, NotFound)
}
