package postgres

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"tradestore/test/stack"
	"tradestore/trade"
)

func TestMain(m *testing.M) { stack.Main(m) }

const (
	testTopic      = "trades-inbound"
	testPartitions = 4
)

var testTopicID = trade.TopicID{1, 2, 3}

// unreachable is the URL of a database that is down.
const unreachable = "postgres://nobody@127.0.0.1:1/none"

// testDatabase is a migrated database with the positions of one topic, and a pool of each kind on it.
type testDatabase struct {
	url    string
	reads  *pgxpool.Pool // as the server and the maintainer have it
	writer *pgxpool.Pool // as the worker's lanes have it
}

func newDatabase(t testing.TB) *testDatabase {
	t.Helper()
	url := stack.Database(t)
	require.NoError(t, Migrate(t.Context(), url))
	d := &testDatabase{url: url, reads: openPool(t, url, "reads", Open), writer: openPool(t, url, "writer", OpenWriter)}
	require.NoError(t, AddTopic(t.Context(), d.reads, testTopic, testTopicID, testPartitions))
	return d
}

type openFunc func(context.Context, Config, prometheus.Registerer) (*pgxpool.Pool, error)

func openPool(t testing.TB, url, name string, open openFunc) *pgxpool.Pool {
	t.Helper()
	pool, err := open(t.Context(), Config{URL: url, ApplicationName: name}, prometheus.NewRegistry())
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// exec runs statements that are no part of what is tested.
func (d *testDatabase) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	_, err := d.reads.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

// count returns the only value of a query.
func (d *testDatabase) count(t testing.TB, sql string, args ...any) int {
	t.Helper()
	var n int
	require.NoError(t, d.reads.QueryRow(t.Context(), sql, args...).Scan(&n))
	return n
}

// lines returns the only column of a query.
func (d *testDatabase) lines(t testing.TB, sql string, args ...any) []string {
	t.Helper()
	rows, err := d.reads.Query(t.Context(), sql, args...)
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return lines
}

// explain returns the plan of a query.
func (d *testDatabase) explain(t testing.TB, sql string, args ...any) string {
	t.Helper()
	return strings.Join(d.lines(t, "EXPLAIN "+sql, args...), "\n")
}
