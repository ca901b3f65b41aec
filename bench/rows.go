package main

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"tradestore/postgres"
)

// rowsGoal is the goal for a drain into full tables, relative to one into empty tables.
const rowsGoal = 0.6

// rows compares the drain of new trades into full tables with the same into empty tables: with growing ids, as in most
// systems, and with random ids, where each new row goes to an index page that is not cached.
func rows(ctx context.Context, h *harness, r *results) error {
	if h.kafka == nil {
		return nil
	}
	empty, err := h.newEnv(ctx, "rows_empty", partitions, h.records)
	if err != nil {
		return err
	}
	full, err := h.newEnv(ctx, "rows_full", partitions, h.records)
	if err != nil {
		return err
	}
	size, err := h.fillTables(ctx, full, h.tableRows)
	if err != nil {
		return err
	}
	var stages []stage
	for _, kind := range []struct {
		name   string
		trades tradeSource
	}{{"ids that grow", growingIDs}, {"ids in no order", scatteredIDs(storedVersion)}} {
		stages = append(stages, stage{title: kind.name, unit: "records",
			limit: h.newDrains("empty tables, "+kind.name, empty, workers{count: 1}, kind.trades),
			ours:  []*series{h.newDrains("full tables, "+kind.name, full, workers{count: 1}, kind.trades)}})
	}
	if err := h.measure(ctx, true, stages...); err != nil {
		return err
	}
	for _, s := range stages {
		g := atLeast(rowsGoal, fmt.Sprintf("drain at %s rows, %s", thousands(float64(h.tableRows)), s.title), s.ours[0],
			s.limit, rate, "rows")
		g.got += ", " + size + " in the database"
		r.addGoal(g)
	}
	return nil
}

// chunk is how many rows are inserted between two progress messages.
const chunk = 1_000_000

// The rows of trades that were stored earlier today, $1 to $2 of $3: ids spread evenly over those of scattered, and a
// journal in the order of time. Generation 0 was before the first, so nothing of it is left to be projected.
const (
	// OFFSET 0 keeps the planner from computing the inner columns once per use.
	earlier = `WITH earlier AS (
		SELECT n, at, 'TRD-' || lpad((n * (4294967296 / $3::bigint))::text, 10, '0') || '-S' AS trade_id,
			(lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(random, 1, 3) ||
				'8' || substr(random, 4, 15))::uuid AS request_id
		FROM generate_series($1::bigint, $2::bigint) n, LATERAL (
			SELECT date_trunc('day', now(), 'UTC') + (now() - date_trunc('day', now(), 'UTC')) * (n::float8 / $3::bigint) AS at,
				md5(n::text) AS random OFFSET 0) t)`
	fillTrades = earlier + `
		INSERT INTO trades (src_offset, stored_at, version, src_generation, src_partition, maturity_date, created_date,
			request_id, trade_id, counterparty_id, book_id)
		SELECT n, at, 2, 0, n % 12, '2199-12-31', (at AT TIME ZONE 'UTC')::date, request_id,
			trade_id, 'CP-' || n % 97, 'B-' || n % 13 FROM earlier`
	fillJournal = earlier + `
		INSERT INTO journal ("offset", accepted_at, decided_at, accepted_on, generation, partition, version, maturity_date,
			created_date, request_id, outcome, trade_id, counterparty_id, book_id, correlation_id)
		SELECT n, at, at, (at AT TIME ZONE 'UTC')::date, 0, n % 12, 2, '2199-12-31', (at AT TIME ZONE 'UTC')::date,
			request_id, 'SUCCESS', trade_id, 'CP-' || n % 97, 'B-' || n % 13,
			'6f6c2a39-0b3d-4a55-9a86-0f4f1f4d5f0e' FROM earlier`
)

// fillTables fills the tables of an environment and returns the size of its database as text.
func (h *harness) fillTables(ctx context.Context, e *storeEnv, rows int) (size string, err error) {
	h.say("filling database %s with %s rows in each table", e.topic, thousands(float64(rows)))
	if err := e.makeDays(ctx); err != nil {
		return "", err
	}
	both, inner := errgroup.WithContext(ctx)
	for table, statement := range map[string]string{"trades": fillTrades, "journal": fillJournal} {
		both.Go(func() error {
			for from := 0; from < rows; from += chunk {
				if err := e.exec(inner, statement, from, min(from+chunk, rows)-1, rows); err != nil {
					return fmt.Errorf("cannot fill table %s: %w", table, err)
				}
				h.say("%s: %s of %s rows", table, thousands(float64(min(from+chunk, rows))), thousands(float64(rows)))
			}
			return e.exec(inner, "VACUUM (ANALYZE) "+table)
		})
	}
	if err := both.Wait(); err != nil {
		return "", err
	}
	if err := e.exec(ctx, "CHECKPOINT"); err != nil { // of what was filled, not of what is measured
		return "", err
	}
	conn, hangUp, err := connect(ctx, e.database)
	if err != nil {
		return "", err
	}
	defer hangUp()
	err = conn.QueryRow(ctx, "SELECT pg_size_pretty(pg_database_size(current_database()))").Scan(&size)
	if err != nil {
		return "", fmt.Errorf("cannot read the size of database %s: %w", e.topic, err)
	}
	e.filled = true
	h.say("database %s takes %s", e.topic, size)
	return size, nil
}

// makeDays creates the partitions for the rows of today, as a worker does when it starts.
func (e *storeEnv) makeDays(ctx context.Context) error {
	pool, err := postgres.Open(ctx, postgres.Config{URL: e.database, MaxConns: 1, ApplicationName: "bench-days"},
		prometheus.NewRegistry())
	if err != nil {
		return err
	}
	defer pool.Close()
	return postgres.NewMaintainer(pool).MakeDays(ctx, time.Now())
}
