package apiclient_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/internal/apiclient"
	_ "tradestore/test/cleanenv"
	"tradestore/trade"
)

// service answers every call with the function given.
func service(t *testing.T, answer http.HandlerFunc) *apiclient.Client {
	t.Helper()
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	c := apiclient.New(s.URL+"/", apiclient.Options{Conns: 2, Timeout: time.Minute})
	t.Cleanup(c.Close)
	return c
}

func TestCallsAreWhatTheAPIDescribes(t *testing.T) {
	t.Parallel()
	var got string
	c := service(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = fmt.Sprint(r.Method, " ", r.RequestURI, " ", string(body))
		for _, name := range []string{"Content-Type", "Idempotency-Key", "Prefer", "X-Correlation-Id", "Trade-Replay-Of"} {
			if value := r.Header.Get(name); value != "" {
				got += fmt.Sprint(" ", name, "=", value)
			}
		}
	})
	f := func(want string, _ apiclient.Answer, err error) {
		t.Helper()
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	ctx, all := t.Context(),
		apiclient.PostOptions{Key: "k", Wait: 2500 * time.Millisecond, CorrelationID: "c", ReplayOf: "r"}
	call := func(want string) func(apiclient.Answer, error) {
		t.Helper()
		return func(a apiclient.Answer, err error) { t.Helper(); f(want, a, err) }
	}
	call("POST /api/v1/trades {} Content-Type=application/json")(c.PostTrade(ctx, []byte("{}"), apiclient.PostOptions{}))
	call("POST /api/v1/trades:batch {} Content-Type=application/x-ndjson Idempotency-Key=k Prefer=wait=2 " +
		"X-Correlation-Id=c Trade-Replay-Of=r")(c.PostTrades(ctx, []byte("{}"), all))
	call("GET /api/v1/requests/a%2Fb ")(c.Request(ctx, "a/b", 0))
	call("GET /api/v1/requests/id  Prefer=wait=1")(c.Request(ctx, "id", time.Second))
	call("GET /api/v1/trades/T%20%3F?limit=3 ")(c.Trade(ctx, "T ?", "", 3))
	call("GET /api/v1/trades/T?cursor=x&limit=3 ")(c.Trade(ctx, "T", "x", 3))
	call("GET /api/v1/trades/T/history?limit=7 ")(c.History(ctx, "T", "", 7))
	call("GET /api/v1/trades/T/history?cursor=x%3D&limit=7 ")(c.History(ctx, "T", "x=", 7))
	call("GET /api/v1/trades?book_id=B&limit=1 ")(c.Trades(ctx, map[string][]string{"book_id": {"B"}}, "", 1))
}

func TestAnswersAreBoundedAndWhole(t *testing.T) {
	t.Parallel()
	c := service(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/", http.StatusFound)
		case "/cut":
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "short")
		case "/long":
			_, _ = io.WriteString(w, strings.Repeat(" ", apiclient.MaxBody+1))
		case "/hangup":
			panic(http.ErrAbortHandler)
		}
	})
	f := func(path string, fault error) apiclient.Answer {
		t.Helper()
		a, err := c.Do(t.Context(), http.MethodGet, path, nil, nil)
		require.ErrorIs(t, err, fault)
		return a
	}
	require.Equal(t, http.StatusOK, f("/", nil).Status)
	require.Equal(t, "302 Found", f("/moved", nil).StatusLine(), "no redirect is followed")
	f("/cut", apiclient.ErrNoAnswer)
	f("/hangup", apiclient.ErrNoAnswer)
	f("/long", apiclient.ErrUnexpected)
	_, err := c.Do(t.Context(), "BAD METHOD", "/", nil, nil)
	require.ErrorIs(t, err, apiclient.ErrUnexpected)
	_, err = apiclient.New("http://127.0.0.1:1", apiclient.Options{}).Trade(t.Context(), "T", "", 1)
	require.ErrorIs(t, err, apiclient.ErrNoAnswer)
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	const limit = 30 * time.Second
	f := func(header string, want time.Duration) {
		t.Helper()
		require.Equal(t, want, apiclient.Answer{Header: http.Header{"Retry-After": {header}}}.RetryAfter(limit))
	}
	f("2", 2*time.Second)
	f("0", 0)
	f("", 0)
	f("-1", 0)
	f("soon", 0)
	f("86400", limit)
	f("99999999999999999999", 0)
	require.Zero(t, apiclient.Answer{}.RetryAfter(limit))
}

func TestTemporary(t *testing.T) {
	t.Parallel()
	f := func(want bool, statuses ...int) {
		t.Helper()
		for _, status := range statuses {
			require.Equal(t, want, apiclient.Answer{Status: status}.Temporary(), status)
		}
	}
	f(true, 408, 429, 500, 502, 503, 504)
	f(false, 200, 202, 207, 302, 400, 404, 409, 413, 422)
}

func TestProblemSaysWhy(t *testing.T) {
	t.Parallel()
	f := func(want, body string) {
		t.Helper()
		var p apiclient.Problem
		require.NoError(t, apiclient.Answer{Status: 400, Body: []byte(body)}.Decode(&p))
		require.Equal(t, want, p.Why())
	}
	f("one", `{"status":400,"code":"INVALID_TRADE","title":"t","detail":"one",`+
		`"errors":[{"field":"version","detail":"x"}]}`)
	f("version: x; book_id: y",
		`{"detail":"two","errors":[{"field":"version","detail":"x"},{"field":"book_id","detail":"y"}]}`)
	f("t", `{"title":"t"}`)
	f("", `{}`)
	require.ErrorIs(t, apiclient.Answer{Body: []byte("<html>")}.Decode(new(apiclient.Page)), apiclient.ErrUnexpected)
}

func TestReady(t *testing.T) {
	t.Parallel()
	status := http.StatusOK
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			http.Error(w, "database: unavailable", status)
			return
		}
	}))
	defer s.Close()
	require.NoError(t, apiclient.Ready(t.Context(), s.URL+"/"))
	status = http.StatusServiceUnavailable
	require.EqualError(t, apiclient.Ready(t.Context(), s.URL),
		s.URL+"/readyz answers 503 Service Unavailable: database: unavailable")
	s.Close()
	require.ErrorIs(t, apiclient.Ready(t.Context(), s.URL), apiclient.ErrNoAnswer)
}

// Submit a trade, then read the state of its request.
func Example() {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusAccepted)
			_, _ = io.WriteString(w, `{"request_id":"019e7c1a-5b7e-7c40-9f4e-3a1f0c2d4b6a","status":"PENDING"}`)
			return
		}
		_, _ = io.WriteString(w,
			`{"request_id":"019e7c1a-5b7e-7c40-9f4e-3a1f0c2d4b6a","status":"SUCCESS","trade_id":"T1","version":1}`)
	}))
	defer service.Close()

	client := apiclient.New(service.URL, apiclient.Options{Conns: 4, Timeout: 10 * time.Second})
	defer client.Close()
	ctx := context.Background()
	answer, err := client.PostTrade(ctx, []byte(`{"trade_id":"T1","version":1}`), apiclient.PostOptions{Key: "my-key-1"})
	var state apiclient.State
	if err != nil || answer.Decode(&state) != nil || answer.Status != http.StatusAccepted {
		fmt.Println("not accepted", err)
		return
	}
	for state.Status == trade.Pending {
		if answer, err = client.Request(ctx, state.RequestID, 10*time.Second); err != nil || answer.Decode(&state) != nil {
			fmt.Println("not known", err)
			return
		}
	}
	fmt.Println(state.TradeID, state.Version, state.Status)
	// Output: T1 1 SUCCESS
}
