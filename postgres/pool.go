// Package postgres keeps trades, the journal of decided requests and the request store in PostgreSQL.
//
// The apply transaction (Store.Apply) is the main part: it decides a batch of log records and makes the positions, the
// trades, the journal and the dead letters durable together. The rest reads its rows or maintains its tables.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

// Config holds the settings of a connection pool. A zero limit means the default that its comment names.
type Config struct {
	URL             string // postgres://user:password@host:port/database, or key=value pairs
	MaxConns        int    // most connections of the pool, at least 1; default 4
	ApplicationName string // shown by pg_stat_activity, and the label "pool" of the metrics; unique in a process

	// ConnectTimeout is the time limit for one new connection; default 5 s.
	ConnectTimeout time.Duration
	// StatementTimeout is the server's time limit for each statement, and for a transaction that waits for its client, so
	// that a frozen process does not keep row locks; default 20 s. It must be below the rebalance timeout of the workers.
	StatementTimeout time.Duration
}

// Open returns a pool for reads and for the request store. It does not connect: if the database is down, the first call
// fails. An error names an invalid setting. The caller closes the pool.
func Open(ctx context.Context, cfg Config, reg prometheus.Registerer) (*pgxpool.Pool, error) {
	return open(ctx, cfg, reg, nil)
}

// OpenWriter returns a pool for Store. Its sessions also rule out hash and merge joins: every statement of the apply
// transaction finds its rows by key, and a plan that was cached while the tables were small would scan them later.
func OpenWriter(ctx context.Context, cfg Config, reg prometheus.Registerer) (*pgxpool.Pool, error) {
	return open(ctx, cfg, reg, map[string]string{"enable_hashjoin": "off", "enable_mergejoin": "off"})
}

func open(
	ctx context.Context, cfg Config, reg prometheus.Registerer, session map[string]string,
) (*pgxpool.Pool, error) {
	pc, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("cannot read the database URL (--database-url): %w", err)
	}
	if cfg.MaxConns < 0 || cfg.ApplicationName == "" {
		return nil, errors.New("a pool needs an application name and at least 1 connection")
	}
	pc.MaxConns = int32(min(orDefault(cfg.MaxConns, 4), 10_000))
	if pc.ConnConfig.ValidateConnect == nil { // a decision or a read on a replica would be wrong
		pc.ConnConfig.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	pc.PingTimeout = 5 * time.Second
	pc.ConnConfig.ConnectTimeout = orDefault(cfg.ConnectTimeout, 5*time.Second)
	limit := strconv.FormatInt(orDefault(cfg.StatementTimeout, defaultTxTimeout).Milliseconds(), 10)
	for name, value := range map[string]string{
		"application_name":                    cfg.ApplicationName,
		"timezone":                            "UTC",
		"synchronous_commit":                  "on", // 202s and outcomes need it, whatever the server's default is
		"statement_timeout":                   limit,
		"idle_in_transaction_session_timeout": limit,
		"enable_seqscan":                      "off",                // statements find rows by key, see OpenWriter
		"jit":                                 "off",                // would compile disabled plans, which takes 100 ms
		"plan_cache_mode":                     "force_generic_plan", // planning a probe takes longer than the probe
	} {
		pc.ConnConfig.RuntimeParams[name] = value
	}
	for name, value := range session {
		pc.ConnConfig.RuntimeParams[name] = value
	}
	pc.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		useArrays(conn.TypeMap())
		return nil
	}
	watchCalls(pc)
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("cannot make the connection pool %s: %w", cfg.ApplicationName, err)
	}
	if err := reg.Register(newPoolCollector(cfg.ApplicationName, pool)); err != nil {
		pool.Close()
		return nil, fmt.Errorf("cannot register the metrics of pool %s: %w", cfg.ApplicationName, err)
	}
	return pool, nil
}

func orDefault[T int | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}
