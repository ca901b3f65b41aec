package loadtest

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

// answering is a target that gives the same answer to everything.
func answering(t *testing.T, status int, body string) *API {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
		out.WriteHeader(status)
		fmt.Fprint(out, body)
	}))
	t.Cleanup(srv.Close)
	api := NewAPI(parseURL(t, srv.URL+"/"), 2, 5*time.Second)
	t.Cleanup(api.Close)
	return api
}

func TestAPIRequest(t *testing.T) {
	id := requestID("1")
	f := func(status int, body string, want State, found bool, fault error) {
		t.Helper()
		s, ok, err := answering(t, status, body).Request(t.Context(), id)
		require.ErrorIs(t, err, fault)
		require.Equal(t, found, ok)
		require.Equal(t, want, s)
	}
	named := `{"request_id":"` + id.String() + `",`
	f(200, named+`"status":"SUCCESS","trade_id":"T","version":3}`, State{trade.Success, "", "T", 3}, true, nil)
	f(200, named+`"status":"FAILED","trade_id":"T","version":3,"reason":"STALE_VERSION"}`,
		State{trade.Failed, trade.StaleVersion, "T", 3}, true, nil)
	f(200, named+`"status":"PENDING"}`, State{Status: trade.Pending}, true, nil)
	f(404, `{"code":"NOT_FOUND"}`, State{}, false, nil)
	f(200, named+`"status":"DONE"}`, State{}, false, ErrAnswer)
	f(200, `{"request_id":"another","status":"SUCCESS"}`, State{}, false, ErrAnswer)
	f(200, `<html>`, State{}, false, ErrAnswer)
	f(400, `{"code":"INVALID_REQUEST_ID"}`, State{}, false, ErrAnswer)
	f(302, ``, State{}, false, ErrAnswer)
}

func TestAPITrade(t *testing.T) {
	f := func(status int, body string, want []trade.Trade, fault error) {
		t.Helper()
		got, err := answering(t, status, body).Trade(t.Context(), "T")
		require.ErrorIs(t, err, fault)
		require.Equal(t, want, got)
	}
	item := func(id string, version int, created string) string {
		return fmt.Sprintf(`{"trade_id":%q,"version":%d,"counterparty_id":"C","book_id":"B",`+
			`"maturity_date":"2099-12-31","created_date":%q,"expired":false}`, id, version, created)
	}
	maturity, _ := trade.ParseDate("2099-12-31")
	created, _ := trade.ParseDate("2026-11-23")
	one := trade.Trade{TradeID: "T", Version: 1, CounterpartyID: "C", BookID: "B",
		MaturityDate: maturity, CreatedDate: created}
	two := one
	two.Version = 2
	f(200, `{"trade_id":"T","items":[`+item("T", 1, "2026-11-23")+`,`+item("T", 2, "2026-11-23")+`]}`,
		[]trade.Trade{one, two}, nil)
	f(404, `{"code":"NOT_FOUND"}`, nil, nil)
	f(200, `{"items":[`+item("T", 2, "2026-11-23")+`,`+item("T", 1, "2026-11-23")+`]}`, nil, ErrAnswer)
	f(200, `{"items":[`+item("T", 1, "2026-11-23")+`,`+item("T", 1, "2026-11-23")+`]}`, nil, ErrAnswer)
	f(200, `{"items":[`+item("U", 1, "2026-11-23")+`]}`, nil, ErrAnswer)
	f(200, `{"items":[`+item("T", 1, "2026-11-31")+`]}`, nil, ErrAnswer)
	f(200, `{"items":`, nil, ErrAnswer)
}

func TestAPIGivesUpWithItsContext(t *testing.T) {
	api := answering(t, 500, `{"code":"INTERNAL"}`)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, _, err := api.Request(ctx, requestID("1"))
	require.ErrorIs(t, err, errLater)
	require.ErrorContains(t, err, "500")
	_, err = api.Trade(ctx, "T")
	require.ErrorIs(t, err, errLater)
}
