package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"tradestore/internal/checks"
	"tradestore/migrations"
)

// oldestRelease is the first PostgreSQL that the statements run on.
const oldestRelease = 15

// DatabaseCheck is what the database has to be (rule T6).
type DatabaseCheck struct {
	Production bool // demands that what is committed survives a loss of power

	// met is set once the schema was the one of this build. A newer one then is the work of the next release, which must
	// not stop this one.
	met bool
}

// querier is a connection, or a pool of them.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Checks compares the database with what it has to be, as a session of pool sees it. The list has the same rows each
// time. It is not for concurrent use.
func (t *DatabaseCheck) Checks(ctx context.Context, pool *pgxpool.Pool) []checks.Check {
	conn, release, err := session(ctx, pool)
	if err != nil {
		err = fmt.Errorf("cannot reach PostgreSQL: %w", err)
		return append(t.judge(&server{}, err), t.schema(ctx, nil, err))
	}
	defer release()
	var s server
	err = conn.QueryRow(ctx, `SELECT pg_is_in_recovery(), current_setting('transaction_read_only'), current_setting('server_version_num')::integer / 10000,
		current_setting('server_encoding'), current_setting('TimeZone'), current_setting('synchronous_commit'), current_setting('fsync'), current_setting('full_page_writes')`).
		Scan(&s.recovering, &s.readOnly, &s.release, &s.encoding, &s.zone, &s.syncCommit, &s.fsync, &s.fullPages)
	if err != nil {
		err = fmt.Errorf("cannot read the settings of PostgreSQL: %w", err)
	}
	return append(t.judge(&s, err), t.schema(ctx, conn, err))
}

// session takes a connection of the pool. The pool refuses a server that takes no writes and can't tell it from one that
// is down, so such a server is asked again, by a connection of its own.
func session(ctx context.Context, pool *pgxpool.Pool) (conn querier, release func(), err error) {
	pooled, err := pool.Acquire(ctx)
	if err == nil {
		return pooled, pooled.Release, nil
	}
	cfg := pool.Config().ConnConfig
	cfg.ValidateConnect = nil
	single, second := pgx.ConnectConfig(ctx, cfg)
	if second != nil {
		return nil, nil, err
	}
	return single, func() { _ = single.Close(context.WithoutCancel(ctx)) }, nil
}

// server is what a session says of its server.
type server struct {
	recovering                 bool
	readOnly                   string
	release                    int
	encoding, zone, syncCommit string
	fsync, fullPages           string
}

// judge makes the rows of the settings; err says that none could be read.
func (t *DatabaseCheck) judge(s *server, err error) []checks.Check {
	writes := "yes"
	switch {
	case s.recovering:
		writes = "no: a replica"
	case s.readOnly == "on":
		writes = "no: sessions are read-only"
	}
	row := func(name, expected, seen string, holds bool) checks.Check {
		if err != nil {
			return checks.CanNotTell("T6", name, expected, err)
		}
		return checks.Compare("T6", name, expected, seen, holds)
	}
	list := []checks.Check{
		row("takes writes", "yes", writes, writes == "yes"),
		row("release of PostgreSQL", strconv.Itoa(oldestRelease)+" or newer", strconv.Itoa(s.release), s.release >= oldestRelease),
		row("server_encoding", "UTF8", s.encoding, s.encoding == "UTF8"),
		row("TimeZone", "UTC", s.zone, s.zone == "UTC"),
		row("synchronous_commit", "on", s.syncCommit, s.syncCommit == "on" || s.syncCommit == "remote_apply"),
	}
	for _, c := range []checks.Check{row("fsync", "on", s.fsync, s.fsync == "on"), row("full_page_writes", "on", s.fullPages, s.fullPages == "on")} {
		if !t.Production && err == nil {
			c = checks.Skip(c.ID, c.Name, c.Expected, c.Seen+" (profile single)")
		}
		list = append(list, c)
	}
	return list
}

// schema compares the version of the schema with the one of this build; err says that nothing can be read.
func (t *DatabaseCheck) schema(ctx context.Context, conn querier, err error) checks.Check {
	const name = "version of the schema"
	expected := strconv.Itoa(int(migrations.Version))
	if t.met {
		expected += " or newer"
	}
	if err != nil {
		return checks.CanNotTell("T6", name, expected, err)
	}
	var have int32
	err = conn.QueryRow(ctx, "SELECT version FROM "+migrations.VersionTable).Scan(&have)
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg) && pg.Code == undefinedTable, errors.Is(err, pgx.ErrNoRows):
		return checks.Compare("T6", name, expected, "none: run tradestore migrate", false)
	case err != nil:
		return checks.CanNotTell("T6", name, expected, fmt.Errorf("cannot read the version of the schema: %w", err))
	case have < migrations.Version:
		return checks.Compare("T6", name, expected, fmt.Sprintf("%d: run tradestore migrate", have), false)
	case have > migrations.Version && !t.met:
		return checks.Compare("T6", name, expected, fmt.Sprintf("%d: run a newer tradestore", have), false)
	}
	t.met = true
	return checks.Compare("T6", name, expected, strconv.Itoa(int(have)), true)
}
