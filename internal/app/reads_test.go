package app

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// Whatever holds up the reads of the past, trades are accepted and checked, and the server is ready: here the journal
// is locked, and fifty clients ask for histories.
func TestHistoriesThatHangLeaveAcceptAndReadinessAlone(t *testing.T) {
	t.Parallel()
	s := newDeployment(t)
	db, err := pgx.Connect(t.Context(), s.database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close(context.Background()) })
	_, err = db.Exec(t.Context(), `INSERT INTO trades VALUES
		(0, now(), 5, 1, 0, '2099-01-01', '2026-01-01', gen_random_uuid(), 'HOT', 'C', 'B')`)
	require.NoError(t, err)
	server := start(t, func(ctx context.Context, env Env) error { return RunServer(ctx, s.serverConfig(t), env) })
	server.await(t, "ready", server.answers(t, "/readyz", http.StatusOK))

	tx, err := db.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `LOCK TABLE journal IN ACCESS EXCLUSIVE MODE`)
	require.NoError(t, err)
	var stop atomic.Bool
	var refused, timedOut atomic.Int64
	var readers sync.WaitGroup
	t.Cleanup(readers.Wait)
	t.Cleanup(func() { stop.Store(true) })
	for i := range 50 {
		path := "/api/v1/trades/HOT/history"
		if i%2 == 0 {
			path = "/api/v1/trades/HOT?as_of=2026-01-01T00:00:00Z"
		}
		readers.Go(func() {
			for !stop.Load() {
				res, err := http.Get(server.url + path)
				if err != nil {
					t.Error(err)
					return
				}
				_ = res.Body.Close()
				switch {
				case stop.Load(): // the lock is gone
				case res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "":
					t.Errorf("%s is answered %s", path, res.Status)
				case res.Header.Get("Retry-After") == "2":
					refused.Add(1)
				default:
					timedOut.Add(1)
				}
			}
		})
	}
	const trade = `{"trade_id":"%s","version":%d,"counterparty_id":"C","book_id":"B",` +
		`"maturity_date":"2099-12-31","created_date":"2026-01-01"}`
	for n := 1; n < 50 || refused.Load() < 100 || timedOut.Load() < 8; n++ {
		status, answer := send(t, http.MethodPost, server.url+"/api/v1/trades", fmt.Sprintf(trade, "HOT", 4))
		require.Equal(t, http.StatusBadRequest, status, answer)
		require.Equal(t, "STALE_VERSION", answer["code"], "the version is looked up")
		status, answer = send(t, http.MethodPost, server.url+"/api/v1/trades", fmt.Sprintf(trade, "T", n))
		require.Equal(t, http.StatusAccepted, status, answer)
		status, answer = server.get(t, "/readyz")
		require.Equal(t, http.StatusOK, status, answer)
		status, _ = server.get(t, "/api/v1/trades/HOT")
		require.Equal(t, http.StatusOK, status, "what is stored now is read")
	}
	stop.Store(true)
	require.NoError(t, tx.Rollback(t.Context()))
	readers.Wait()
	server.await(t, "histories are answered again", server.answers(t, "/api/v1/trades/HOT/history", http.StatusNotFound))
}
