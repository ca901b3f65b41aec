package postgres

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"tradestore/test/stack"
	"tradestore/trade"
)

func TestSessionSettings(t *testing.T) {
	t.Parallel()
	url := stack.Database(t) + "&timezone=Asia/Tokyo&synchronous_commit=off"
	if !strings.Contains(url, "?") {
		url = strings.Replace(url, "&", "?", 1)
	}
	reads, writer := openPool(t, url, "reads", Open), openPool(t, url, "writer", OpenWriter)
	f := func(name, inReads, inWriter string) {
		t.Helper()
		var got string
		require.NoError(t, reads.QueryRow(t.Context(), "SHOW "+name).Scan(&got))
		require.Equal(t, inReads, got)
		require.NoError(t, writer.QueryRow(t.Context(), "SHOW "+name).Scan(&got))
		require.Equal(t, inWriter, got)
	}
	f("synchronous_commit", "on", "on")
	f("timezone", "UTC", "UTC")
	f("statement_timeout", "20s", "20s")
	f("idle_in_transaction_session_timeout", "20s", "20s")
	f("enable_seqscan", "off", "off")
	f("jit", "off", "off")
	f("enable_hashjoin", "on", "off")
	f("enable_mergejoin", "on", "off")
	f("application_name", "reads", "writer")
}

func TestOpenRefusesBadSettings(t *testing.T) {
	t.Parallel()
	f := func(cfg Config, want string) {
		t.Helper()
		_, err := Open(t.Context(), cfg, prometheus.NewRegistry())
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "hush")
	}
	f(Config{URL: "postgres://u:hush@host:port/db", ApplicationName: "a"}, "--database-url")
	f(Config{URL: "postgres://u:hush@host/db", ApplicationName: ""}, "application name")
	f(Config{URL: "postgres://u:hush@host/db", ApplicationName: "a", MaxConns: -1}, "at least 1 connection")
	require.ErrorContains(t, Migrate(t.Context(), "postgres://u:hush@host:port/db"), "--database-url")

	reg := prometheus.NewRegistry()
	cfg := Config{URL: "postgres://u@127.0.0.1:1/db", ApplicationName: "a"}
	pool, err := Open(t.Context(), cfg, reg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	_, err = Open(t.Context(), cfg, reg)
	require.ErrorContains(t, err, "metrics of pool a", "one name, one pool")
}

// A database that can't be written to is refused: a look-up on a replica would be stale, a decision wrong.
func TestReadOnlyServerIsRefused(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(t, "ALTER DATABASE "+d.reads.Config().ConnConfig.Database+" SET default_transaction_read_only = on")
	err := openPool(t, d.url, "later", Open).Ping(t.Context())
	require.ErrorContains(t, err, "read only")
	require.Equal(t, trade.Unavailable, classify(err))
}

func TestStatementTimeLimit(t *testing.T) {
	t.Parallel()
	url := stack.Database(t)
	cfg := Config{URL: url, ApplicationName: "a", StatementTimeout: 20 * time.Millisecond}
	pool, err := Open(t.Context(), cfg, prometheus.NewRegistry())
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	_, err = pool.Exec(t.Context(), "SELECT pg_sleep(60)")
	var pg *pgconn.PgError
	require.ErrorAs(t, err, &pg)
	require.Equal(t, "57014", pg.Code)
}

func TestPoolMetrics(t *testing.T) {
	t.Parallel()
	url := stack.Database(t)
	reg := prometheus.NewPedanticRegistry()
	reads, err := Open(t.Context(), Config{URL: url, ApplicationName: "reads", MaxConns: 2}, reg)
	require.NoError(t, err)
	t.Cleanup(reads.Close)
	writer, err := OpenWriter(t.Context(), Config{URL: url, ApplicationName: "writer"}, reg)
	require.NoError(t, err)
	t.Cleanup(writer.Close)
	conn, err := reads.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()

	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
		# HELP tradestore_postgres_pool_connections Connections of the pool by state.
		# TYPE tradestore_postgres_pool_connections gauge
		tradestore_postgres_pool_connections{pool="reads",state="connecting"} 0
		tradestore_postgres_pool_connections{pool="reads",state="idle"} 0
		tradestore_postgres_pool_connections{pool="reads",state="in_use"} 1
		tradestore_postgres_pool_connections{pool="writer",state="connecting"} 0
		tradestore_postgres_pool_connections{pool="writer",state="idle"} 0
		tradestore_postgres_pool_connections{pool="writer",state="in_use"} 0
		# HELP tradestore_postgres_pool_connections_limit Upper limit of connections in the pool.
		# TYPE tradestore_postgres_pool_connections_limit gauge
		tradestore_postgres_pool_connections_limit{pool="reads"} 2
		tradestore_postgres_pool_connections_limit{pool="writer"} 4
	`), "tradestore_postgres_pool_connections", "tradestore_postgres_pool_connections_limit"))
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Empty(t, problems)
}

// poolOfOne is a pool of a single session.
type poolOfOne struct {
	t    testing.TB
	pool *pgxpool.Pool
}

// flush makes the counters of the session visible.
func (p *poolOfOne) flush() {
	p.t.Helper()
	_, err := p.pool.Exec(p.t.Context(), "SELECT pg_stat_force_next_flush()")
	require.NoError(p.t, err)
}

// Plans are made and cached while the tables are empty and have no statistics. They must probe indexes all the same:
// not one statement of the apply line, the journal or the reads may scan a table from end to end.
func TestNothingScans(t *testing.T) {
	l := newTopicLog(t)
	require.NoError(t, NewMaintainer(l.db.reads).MakeDays(t.Context(), testNow))
	// One session each: counters are flushed by the session that made them.
	single := func(name string, open openFunc) *poolOfOne {
		pool, err := open(t.Context(), Config{URL: l.db.url, ApplicationName: name, MaxConns: 1}, prometheus.NewRegistry())
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		return &poolOfOne{t, pool}
	}
	writer, reads := single("one writer", OpenWriter), single("one reader", Open)
	l.store = NewStore(writer.pool, StoreConfig{Topic: testTopic})
	requests, reader := NewRequestStore(reads.pool), NewReader(reads.pool)

	for round := range 12 { // past the point where a generic plan is considered
		var id trade.RequestID
		for i := range 30 * (round + 1) {
			id = l.open(requests, fmt.Sprintf("T%d-%d", round, i), 1, "a").ID
		}
		for i := range 10 * round { // of those of the round before
			l.open(requests, fmt.Sprintf("T%d-%d", round-1, i), 1, "b")
		}
		l.apply()
		outcomes, err := l.store.Unprojected(t.Context(), allPartitions, 20)
		require.NoError(t, err)
		require.NoError(t, l.store.Projected(t.Context(), outcomes))
		_, err = requests.Get(t.Context(), id)
		require.NoError(t, err)
		_, err = reader.MaxVersions(t.Context(), []string{"T1-1", "T1-2"})
		require.NoError(t, err)
		_, _, err = reader.Versions(t.Context(), "T1-1", 0, 1)
		require.NoError(t, err)
		_, _, err = reader.List(t.Context(), trade.AllTrades(), trade.Key{TradeID: "T1", Version: 1}, 10)
		require.NoError(t, err)
		filter := trade.Filter{Prefix: "T1", BookID: "B", MaturityTo: 1, Latest: true}
		_, _, err = reader.List(t.Context(), filter, trade.Key{}, 10)
		require.NoError(t, err)
		_, err = reader.Newest(t.Context(), []string{"T1-1", "T1-2"})
		require.NoError(t, err)
	}
	writer.flush()
	reads.flush()
	const partitioned = "(relname = 'trades' OR relname LIKE 'journal%' OR relname LIKE 'requests%')"
	scanned := l.db.count(t, "SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE "+partitioned)
	require.Zero(t, scanned, "rows read by sequential scans")

	// An index can be read from end to end, too. A probe meets the row asked for and no other.
	probed := func(index string) int {
		return l.db.count(t, "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE indexrelname LIKE $1", index)
	}
	rounds, records := 12, l.db.count(t, "SELECT count(*) FROM journal")
	require.Positive(t, probed("journal%pkey"), "counters are there")
	require.LessOrEqual(t, probed("journal%pkey"), 2*rounds, "one per request that was read")
	require.LessOrEqual(t, probed("requests%pkey"), 2*rounds)
	require.LessOrEqual(t, probed("journal%offset%"), 2*rounds*20, "those that were projected")
	require.LessOrEqual(t, probed("trades_pkey"), records+20*rounds)
}
