package server

import (
	"net/http"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/postgres"
	"tradestore/test/stack"
)

// onPostgres is a server that reads a real database of its own.
func onPostgres(t *testing.T) (*api, *pgxpool.Pool) {
	url := stack.Database(t)
	require.NoError(t, postgres.Migrate(t.Context(), url))
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: url, ApplicationName: "server", MaxConns: 8},
		prometheus.NewRegistry())
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	require.NoError(t, postgres.NewMaintainer(pool).MakeDays(t.Context(), testNow))
	return start(t, func(cfg *Config, deps *Deps) {
		cfg.MaxPastReads = 8
		log := postgres.NewRequestStore(pool)
		deps.Requests, deps.Keys = log, log
		deps.LookUp, deps.Trades, deps.Past = postgres.NewReader(pool), postgres.NewReader(pool), postgres.NewReader(pool)
	}), pool
}

// hotTrade stores this many versions of trade HOT. After each so many of them (every) their odd ones are stored again,
// with book "new". The first stores are one a microsecond from two hours before testNow on, the second ones an hour
// later. The journal has them all.
func hotTrade(t *testing.T, pool *pgxpool.Pool, versions, every int) {
	t.Helper()
	ctx := t.Context()
	db, err := pool.Acquire(ctx)
	require.NoError(t, err)
	defer db.Release()
	_, err = db.Exec(ctx, `SET statement_timeout = '10min'`)
	require.NoError(t, err)
	_, err = db.Exec(ctx, `INSERT INTO journal ("offset", accepted_at, decided_at, accepted_on, generation, partition,
			version, maturity_date, created_date, request_id, outcome, trade_id, counterparty_id, book_id, replaces)
		SELECT n, at, at, at::date, 1, 3, version, '2027-01-01', '2026-11-01',
			overlay(gen_random_uuid()::text placing '7' from 15)::uuid, 'SUCCESS', 'HOT', 'C',
			CASE WHEN again THEN 'new' ELSE 'old' END, again
		FROM (SELECT version, again, n, $3::timestamptz + n * interval '1 microsecond' +
				CASE WHEN again THEN interval '1 hour' ELSE interval '0' END AS at
			FROM (SELECT version, again, row_number() OVER (ORDER BY (version - 1) / $2, again, version) - 1 AS n
				FROM generate_series(1, $1) AS version, (VALUES (false), (true)) AS a (again)
				WHERE NOT again OR version % 2 = 1) AS s) AS s`, versions, every, testNow.Add(-2*time.Hour))
	require.NoError(t, err)
	_, err = db.Exec(ctx, `INSERT INTO trades (trade_id, version, counterparty_id, book_id, maturity_date, created_date,
			request_id, src_generation, src_partition, src_offset, stored_at)
		SELECT DISTINCT ON (version) trade_id, version, counterparty_id, book_id, maturity_date, created_date, request_id,
			generation, partition, "offset", decided_at
		FROM journal ORDER BY version, "offset" DESC`)
	require.NoError(t, err)
	_, err = db.Exec(ctx, `ANALYZE`)
	require.NoError(t, err)
}

// pages reads a list from its first to its last page and gives each item to see.
func (a *api) pages(path string, see func(item map[string]any)) (pages int) {
	for cursor := ""; ; pages++ {
		r := a.get(path + cursor)
		m := r.fields(a.t)
		require.Equalf(a.t, 200, r.status, "%s", r.body)
		for _, item := range m["items"].([]any) {
			see(item.(map[string]any))
		}
		next, more := m["next_cursor"].(string)
		if !more {
			return pages + 1
		}
		cursor = "&cursor=" + next
	}
}

// A trade with many versions is read in pages, now and as of an instant, and so is its history.
func TestATradeWithManyVersionsIsReadInPages(t *testing.T) {
	t.Parallel()
	const versions = 5000
	a, pool := onPostgres(t)
	hotTrade(t, pool, versions, versions)
	path := tradesPath + "/HOT"
	page := a.get(path).fields(t)
	require.Len(t, page["items"], defaultLimit)
	require.NotEmpty(t, page["next_cursor"])

	books := func(path string) (next int, old, replaced int) {
		a.pages(path, func(item map[string]any) {
			next++
			require.InDelta(t, next, item["version"], 0)
			switch item["book_id"] {
			case "old":
				old++
			case "new":
				replaced++
			}
		})
		return next, old, replaced
	}
	f := func(query string, wantAll, wantOld int) {
		t.Helper()
		all, old, replaced := books(path + "?limit=1000" + query)
		assert.Equal(t, []int{wantAll, wantOld, wantAll - wantOld}, []int{all, old, replaced})
	}
	f("", versions, versions/2)
	f("&as_of=2026-11-22T23:59:58Z", versions, versions/2)
	f("&as_of=2026-11-22T22:30:00Z", versions, versions) // as they were before each odd one was replaced
	f("&as_of=2026-11-22T21:59:58.124456Z", 1001, 1001)  // the rest came later
	f("&as_of=2026-11-21T00:00:00Z", 0, 0)
	a.get(tradesPath+"/COLD?as_of=2026-11-21T00:00:00Z").problem(t, 404, NotFound)

	n := 0
	require.GreaterOrEqual(t, a.pages(historyOf("HOT")+"?limit=1000", func(item map[string]any) {
		n++
		require.Equal(t, n > versions, item["replaced"] != nil)
	}), 8)
	assert.Equal(t, versions+versions/2, n)
}

// The memory of a read does not depend on how many versions there are: eight readers at once take a million versions,
// and the history of as many submissions, within a heap that a single answer with all of them would exceed.
func TestAMillionVersionsAreReadInBoundedMemory(t *testing.T) {
	stack.OnlyLong(t)
	const versions, most = 1_000_000, 96 << 20
	a, pool := onPostgres(t)
	hotTrade(t, pool, versions, 5000)
	before := debug.SetMemoryLimit(most)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	a.client = &http.Client{} // without the check of each exchange, which takes most of the time
	var peak atomic.Uint64
	var readers sync.WaitGroup
	for reader := range 8 {
		path, want := tradesPath+"/HOT?limit=1000", versions
		switch reader % 3 {
		case 1:
			path += "&as_of=2026-11-22T23:59:58Z"
		case 2:
			path, want = historyOf("HOT")+"?limit=1000", versions+versions/2
		}
		readers.Go(func() {
			seen, start := 0, time.Now()
			pages := a.pages(path, func(map[string]any) {
				if seen++; seen%10_000 == 0 {
					var m runtime.MemStats
					runtime.ReadMemStats(&m)
					peak.Store(max(peak.Load(), m.HeapInuse))
				}
			})
			assert.Equal(t, want, seen, path)
			t.Logf("%s: %d pages in %v", path, pages, time.Since(start))
		})
	}
	readers.Wait()
	t.Logf("the heap had %d MiB at most", peak.Load()>>20)
	require.Less(t, peak.Load(), uint64(most))
}
