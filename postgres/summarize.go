package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tradestore/trade"
)

// rangeBlocks is pages_per_range of the BRIN indexes (001_baseline.sql).
const rangeBlocks = 64

// growingIndexes lists the BRIN index of each day's table, with the full ranges of that table.
const growingIndexes = `
	SELECT i.indexrelid, coalesce(pg_relation_size(i.indrelid), 0) / current_setting('block_size')::bigint / $1
	FROM pg_inherits AS h JOIN pg_index AS i ON i.indexrelid = h.inhrelid
	WHERE h.inhparent IN ('journal_by_trade'::regclass, 'requests_by_age'::regclass)`

// Summarize makes the summaries of the ranges that became full since the last call, so that a history and the orphan
// reaper skip them, and returns how many. By itself PostgreSQL asks autovacuum for each range, which looks once a
// minute and takes 256 ranges: fewer than 5,000 trades a second fill. It asks for no lock that a sweep or a vacuum of
// the table has for long: that table waits for the next call. Calls of one Maintainer must not overlap.
func (m *Maintainer) Summarize(ctx context.Context) (ranges int, err error) {
	err = m.alone(ctx, summarizeLock, func(conn *pgxpool.Conn) error {
		full, err := fullRanges(ctx, conn)
		if err != nil {
			return err
		}
		var errs []error
		for index, count := range full {
			if count == m.summarized[index] {
				continue
			}
			n, err := summarizeIndex(ctx, conn, index)
			ranges += n
			if err != nil {
				full[index] = m.summarized[index] // the next call tries again
				if sqlState(err) != lockNotAvailable {
					errs = append(errs, err)
				}
			}
		}
		m.summarized = full
		return errors.Join(errs...)
	})
	if err != nil {
		return ranges, trade.Classed(classOf(err), "cannot summarize the full ranges of the days: %w", err)
	}
	return ranges, nil
}

// fullRanges returns how many full ranges the table of each BRIN index has, by the oid of the index.
func fullRanges(ctx context.Context, conn *pgxpool.Conn) (map[uint32]int64, error) {
	rows, err := conn.Query(ctx, growingIndexes, rangeBlocks)
	if err != nil {
		return nil, err
	}
	full := make(map[uint32]int64)
	var index uint32
	var count int64
	_, err = pgx.ForEachRow(rows, []any{&index, &count}, func() error {
		full[index] = count
		return nil
	})
	return full, err
}

// summarizeIndex summarizes the full ranges of one index. The server sets no time limit: it would leave the range at
// hand without a summary for good.
func summarizeIndex(ctx context.Context, conn *pgxpool.Conn, index uint32) (ranges int, err error) {
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '100ms'; SET LOCAL statement_timeout = 0"); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `SELECT brin_summarize_new_values($1::oid::regclass)`, index).Scan(&ranges)
	})
	if code := sqlState(err); code == undefinedTable || code == undefinedObject { // the day was dropped meanwhile
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("index %d: %w", index, err)
	}
	return ranges, nil
}
