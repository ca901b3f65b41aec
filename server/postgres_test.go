package server

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/postgres"
	"tradestore/test/stack"
	"tradestore/trade"
)

// The same server in front of the real PostgreSQL: what the fake promises is what the adapters do.
func TestOnPostgreSQL(t *testing.T) {
	url := stack.Database(t)
	require.NoError(t, postgres.Migrate(t.Context(), url))
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: url, ApplicationName: "server"}, prometheus.NewRegistry())
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	a := start(t, func(cfg *Config, deps *Deps) {
		cfg.ProbeMaxAge = time.Nanosecond
		log := postgres.NewRequestStore(pool)
		deps.Requests, deps.Keys = log, log
		deps.LookUp, deps.Trades, deps.Past = postgres.NewReader(pool), postgres.NewReader(pool), postgres.NewReader(pool)
		deps.Checks = []Check{{Name: "database", Probe: pool.Ping}}
	})
	for version := range 3 {
		_, err = pool.Exec(t.Context(), `INSERT INTO trades (trade_id, version, counterparty_id, book_id, maturity_date,
			created_date, request_id, src_generation, src_partition, src_offset, stored_at)
			VALUES ('T1', $1, 'C', 'B', '2026-11-21', '2026-11-01', $2, 1, 0, 0, now())`, version+1, trade.NewRequestID(testNow))
		require.NoError(t, err)
	}

	id := a.post(tradeJSON("T2", 1)).accepted(t)
	state := a.get(requestsPath + id.String())
	assert.Equal(t, 200, state.status)
	assert.Equal(t, "PENDING", state.fields(t)["status"], "at once after the 202")
	a.get(requestsPath+trade.NewRequestID(testNow).String()).problem(t, 404, NotFound)
	a.post(tradeJSON("T1", 2)).problem(t, 400, trade.StaleVersion)
	a.post(tradeJSON("T1", 3)).accepted(t)
	a.records(2)

	assert.Len(t, a.get(tradesPath + "/T1").fields(t)["items"], 3)
	page := a.get(tradesPath + "?limit=2").fields(t)
	assert.Len(t, page["items"], 2)
	last := a.get(fmt.Sprintf("%s?limit=2&cursor=%s", tradesPath, page["next_cursor"])).fields(t)
	assert.Len(t, last["items"], 1)
	assert.NotContains(t, last, "next_cursor")
	assert.Equal(t, 200, a.get("/readyz").status)

	pool.Close()
	a.post(tradeJSON("T3", 1)).noEffect(t, RequestStoreUnavailable)
	a.get(tradesPath).problem(t, 503, StoreUnavailable)
	assert.Equal(t, 503, a.get(healthPath).status)
}
