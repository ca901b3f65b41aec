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

// DatabaseCheck says what the database must be (rule T6).
type DatabaseCheck struct {
	Production bool // demands that a commit survives a loss of power
}

// querier is a connection, or a pool of them.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

const readSettings = `
	SELECT pg_is_in_recovery(), current_setting('transaction_read_only'),
		current_setting('server_version_num')::integer / 10000, current_setting('server_encoding'),
		current_setting('TimeZone'), current_setting('synchronous_commit'),
		current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_standby_names')`

// Checks compares the database with what it must be, as a session of pool sees it. The list always has the same rows.
// It must not be called concurrently.
func (c *DatabaseCheck) Checks(ctx context.Context, pool *pgxpool.Pool) []checks.Check {
	conn, release, err := session(ctx, pool)
	if err != nil {
		err = fmt.Errorf("cannot reach PostgreSQL: %w", err)
		return append(c.judge(&server{}, err), c.schema(ctx, nil, err))
	}
	defer release()
	var s server
	err = conn.QueryRow(ctx, readSettings).
		Scan(&s.recovering, &s.readOnly, &s.release, &s.encoding, &s.zone, &s.syncCommit, &s.fsync, &s.fullPages, &s.standbys)
	if err != nil {
		err = fmt.Errorf("cannot read the settings of PostgreSQL: %w", err)
	}
	list := append(c.judge(&s, err), c.schema(ctx, conn, err))
	if s.writes() == yes {
		return list
	}
	for i := range list { // a standby that a failover shows for a moment: nothing it says is about the writer
		list[i] = list[i].Transient()
	}
	return list
}

// session acquires a connection of the pool. The pool refuses a read-only server with the same error as one that is
// down, so after an error session connects once more without that check.
func session(ctx context.Context, pool *pgxpool.Pool) (conn querier, release func(), err error) {
	pooled, err := pool.Acquire(ctx)
	if err == nil {
		return pooled, pooled.Release, nil
	}
	cfg := pool.Config().ConnConfig
	cfg.ValidateConnect = nil
	single, connectErr := pgx.ConnectConfig(ctx, cfg)
	if connectErr != nil {
		return nil, nil, err
	}
	return single, func() { _ = single.Close(context.WithoutCancel(ctx)) }, nil
}

// server holds what a session says of its server.
type server struct {
	recovering                 bool
	readOnly                   string
	release                    int
	encoding, zone, syncCommit string
	fsync, fullPages           string
	standbys                   string // synchronous ones; empty: none
}

const yes = "yes"

// writes says whether the server takes writes, and if not, why.
func (s *server) writes() string {
	switch {
	case s.recovering:
		return "no: a replica"
	case s.readOnly == "on":
		return "no: sessions are read-only"
	}
	return yes
}

// judge returns the checks of the settings. err says why they could not be read.
func (c *DatabaseCheck) judge(s *server, err error) []checks.Check {
	row := func(name, expected, seen string, holds bool) checks.Check {
		if err != nil {
			return checks.CanNotTell("T6", name, expected, err)
		}
		return checks.Compare("T6", name, expected, seen, holds)
	}
	list := []checks.Check{
		row("takes writes", yes, s.writes(), s.writes() == yes),
		row("release of PostgreSQL", fmt.Sprint(oldestRelease, " or newer"), fmt.Sprint(s.release),
			s.release >= oldestRelease),
		row("server_encoding", "UTF8", s.encoding, s.encoding == "UTF8"),
		row("TimeZone", "UTC", s.zone, s.zone == "UTC"),
		row("synchronous_commit", "on", s.syncCommit, s.syncCommit == "on" || s.syncCommit == "remote_apply"),
	}
	durable := []checks.Check{
		row("fsync", "on", s.fsync, s.fsync == "on"),
		row("full_page_writes", "on", s.fullPages, s.fullPages == "on"),
	}
	for i, d := range durable {
		if !c.Production && err == nil {
			durable[i] = checks.Skip(d.ID, d.Name, d.Expected, d.Seen+" (profile single)")
		}
	}
	return append(append(list, durable...), c.standbys(s, err))
}

// standbys says whether a failover loses nothing. That there is no synchronous standby only warns: storage that is
// replicated below the server, as some services have it, does the same and does not show here.
func (c *DatabaseCheck) standbys(s *server, err error) checks.Check {
	const name, expected = "synchronous_standby_names", "a standby"
	switch {
	case err != nil:
		return checks.CanNotTell("T6", name, expected, err)
	case s.standbys != "":
		return checks.Compare("T6", name, expected, s.standbys, true)
	case !c.Production:
		return checks.Skip("T6", name, expected, "none (profile single)")
	}
	return checks.Warn("T6", name, expected, "none: a failover may take back what was committed last", false)
}

// schema compares the version of the schema with the range that this build works with. A newer schema says itself
// whether it works with an older build: the next release migrates before it replaces this one, and this one may have to
// start again after that. err says why nothing can be read.
func (c *DatabaseCheck) schema(ctx context.Context, conn querier, err error) checks.Check {
	const name = "version of the schema"
	expected := fmt.Sprintf("%d to %d, or newer and compatible", migrations.Oldest, migrations.Version)
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
	case have < migrations.Oldest:
		return checks.Compare("T6", name, expected, fmt.Sprintf("%d: run tradestore migrate", have), false)
	case have <= migrations.Version:
		return checks.Compare("T6", name, expected, strconv.Itoa(int(have)), true)
	}
	since, err := compatibleSince(ctx, conn)
	if err != nil {
		return checks.CanNotTell("T6", name, expected, fmt.Errorf("cannot read which builds the schema works with: %w", err))
	}
	seen := fmt.Sprintf("%d, which works with builds of version %d and newer", have, since)
	if since > migrations.Version {
		return checks.Compare("T6", name, expected, seen+": run a newer tradestore", false)
	}
	return checks.Compare("T6", name, expected, seen, true)
}
