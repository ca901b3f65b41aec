package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"tradestore/internal/checks"
	"tradestore/test/stack"
)

// checked returns the check of that name, and demands that the list is complete.
func checked(t *testing.T, check *DatabaseCheck, pool *pgxpool.Pool, name string) checks.Check {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	list := check.Checks(ctx, pool)
	require.Len(t, list, 9)
	for _, c := range list {
		require.Equal(t, "T6", c.ID)
		require.NotEmpty(t, c.Expected, c.Name)
		require.NotEmpty(t, c.Seen, c.Name)
		if c.Name == name {
			return c
		}
	}
	require.Fail(t, "no check "+name)
	return checks.Check{}
}

func requireSchema(t *testing.T, pool *pgxpool.Pool, want checks.Status, seen string) {
	t.Helper()
	c := checked(t, &DatabaseCheck{}, pool, "version of the schema")
	require.Equal(t, want, c.Status, c)
	require.Contains(t, c.Seen, seen)
}

func TestADatabaseAsItHasToBe(t *testing.T) {
	t.Parallel()
	url := stack.Database(t)
	require.NoError(t, Migrate(t.Context(), url))
	ctx := t.Context()
	require.NoError(t, checks.Err((&DatabaseCheck{}).Checks(ctx, openPool(t, url, "reads", Open))))
	writer := openPool(t, url, "apply", OpenWriter)
	require.NoError(t, checks.Err((&DatabaseCheck{}).Checks(ctx, writer)))
}

// Each setting that is not as it has to be is one failed check (rule T6).
func TestADatabaseThatIsNotAsItHasToBe(t *testing.T) {
	t.Parallel()
	url := stack.Database(t)
	require.NoError(t, Migrate(t.Context(), url))
	f := func(name, setting, value string, want checks.Status, seen string) {
		t.Helper()
		cfg, err := pgxpool.ParseConfig(url) // as a pooler between us and the server may leave a session
		require.NoError(t, err)
		cfg.ConnConfig.RuntimeParams[setting] = value
		pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
		require.NoError(t, err)
		defer pool.Close()
		c := checked(t, &DatabaseCheck{Production: true}, pool, name)
		require.Equal(t, want, c.Status, c)
		require.Contains(t, c.Seen, seen)
	}
	f("TimeZone", "TimeZone", "Europe/Oslo", checks.Failed, "Europe/Oslo")
	f("TimeZone", "TimeZone", "UTC", checks.OK, "UTC")
	f("synchronous_commit", "synchronous_commit", "off", checks.Failed, "off")
	f("synchronous_commit", "synchronous_commit", "local", checks.Failed, "local")
	f("synchronous_commit", "synchronous_commit", "remote_apply", checks.OK, "remote_apply")
	f("takes writes", "default_transaction_read_only", "on", checks.Failed, "sessions are read-only")
}

func TestADatabaseOfAnotherEncoding(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	name := d.reads.Config().ConnConfig.Database + "_ascii"
	d.exec(t, "CREATE DATABASE "+name+" ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
	defer d.exec(t, "DROP DATABASE "+name+" WITH (FORCE)")
	cfg := d.reads.Config()
	cfg.ConnConfig.Database = name
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	defer pool.Close()
	c := checked(t, &DatabaseCheck{}, pool, "server_encoding")
	require.Equal(t, checks.Compare("T6", "server_encoding", "UTF8", "SQL_ASCII", false), c)
}

// A server that takes no writes is told from one that is down, though our pools refuse to connect to both.
func TestAServerThatTakesNoWritesIsNoOutage(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(t, "ALTER DATABASE "+d.reads.Config().ConnConfig.Database+" SET default_transaction_read_only = on")
	pool := openPool(t, d.url, "late", Open)
	require.Error(t, pool.Ping(t.Context()))
	require.Equal(t, checks.Failed, checked(t, &DatabaseCheck{}, pool, "takes writes").Status)

	replica := (&DatabaseCheck{}).judge(&server{recovering: true}, nil)
	require.Equal(t, checks.Compare("T6", "takes writes", "yes", "no: a replica", false), replica[0])
	for _, c := range (&DatabaseCheck{}).Checks(t.Context(), pool) {
		require.Equal(t, c.Transient(), c, "a failover may show it for a moment")
	}
	for _, c := range (&DatabaseCheck{}).Checks(t.Context(), d.reads) {
		require.NotEqual(t, c.Transient(), c)
	}
}

func TestADatabaseThatIsDownCanNotBeTold(t *testing.T) {
	t.Parallel()
	pool := openPool(t, unreachable, "reads", Open)
	for _, c := range (&DatabaseCheck{Production: true}).Checks(t.Context(), pool) {
		require.Equal(t, checks.Unknown, c.Status, c)
	}
}

// What a server may be on one machine, and what a loss of power would destroy.
func TestDurabilityIsAskedForInProduction(t *testing.T) {
	t.Parallel()
	f := func(production bool, s server, want ...checks.Status) {
		t.Helper()
		rows := (&DatabaseCheck{Production: production}).judge(&s, nil)
		require.Equal(t, want, []checks.Status{rows[5].Status, rows[6].Status})
	}
	f(true, server{fsync: "on", fullPages: "on"}, checks.OK, checks.OK)
	f(true, server{fsync: "off", fullPages: "on"}, checks.Failed, checks.OK)
	f(true, server{fsync: "on", fullPages: "off"}, checks.OK, checks.Failed)
	f(false, server{fsync: "off", fullPages: "off"}, checks.Skipped, checks.Skipped)

	standbys := func(production bool, names string) checks.Status {
		return (&DatabaseCheck{Production: production}).judge(&server{standbys: names}, nil)[7].Status
	}
	require.Equal(t, checks.Warning, standbys(true, ""))
	require.Equal(t, checks.Skipped, standbys(false, ""))
	require.Equal(t, checks.OK, standbys(true, "FIRST 1 (a, b)"))

	release := func(n int) checks.Status { return (&DatabaseCheck{}).judge(&server{release: n}, nil)[1].Status }
	require.Equal(t, checks.Failed, release(14))
	require.Equal(t, checks.OK, release(15))
	require.Equal(t, checks.OK, release(17))
}
