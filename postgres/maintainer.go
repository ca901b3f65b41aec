package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tradestore/trade"
)

// Maintainer makes and drops the day partitions and deletes old rows. Several workers may call its methods at once: one
// does the work, and nothing is left for the others.
type Maintainer struct {
	pool       *pgxpool.Pool
	summarized map[uint32]int64 // full ranges of each BRIN index, by its oid, that have a summary
}

// NewMaintainer returns a Maintainer on any pool of the package.
func NewMaintainer(pool *pgxpool.Pool) *Maintainer { return &Maintainer{pool: pool} }

// Partitions are made from yesterday, whose requests may be in flight, to a week ahead. After that time without a
// maintainer rows stray into the default partitions.
const (
	daysBack  = 1
	daysAhead = 7
)

// Keys of the advisory locks: of a transaction that changes partitions, of a whole sweep and of making summaries. The
// numbers mean nothing.
const (
	dayLock       = 7_205_031_901
	sweepLock     = 7_205_031_902
	summarizeLock = 7_205_031_903
)

// A change of partitions takes locks that others queue behind. After lockLimit it gives up, and tries again.
const (
	lockLimit = "500ms"
	lockTries = 5
)

// dayTables are the tables that are partitioned by day, in the order in which they are locked.
var dayTables = []string{"journal", "requests"}

// dayTable returns the name of the partition of one day, like journal_20261231.
func dayTable(table string, day trade.Date) string {
	return table + "_" + day.Time().Format("20060102")
}

// MakeDays creates the missing partitions from yesterday to a week ahead of now. A day that already has rows in the
// default partition gets none: its rows can't be moved under load, and the sweep deletes them row by row.
func (m *Maintainer) MakeDays(ctx context.Context, now time.Time) error {
	today := trade.DateOf(now)
	for _, table := range dayTables {
		have, err := partitions(ctx, m.pool, table)
		if err != nil {
			return trade.Classed(classify(err), "cannot list the days of table %s: %w", table, err)
		}
		for day := today - daysBack; day <= today+daysAhead; day++ {
			if slices.Contains(have, day) {
				continue
			}
			err := changeDays(ctx, m.pool, func(tx pgx.Tx) error { return makeDay(ctx, tx, table, day) })
			if err != nil && sqlState(err) != checkViolation { // a row of the day strayed in meanwhile
				return trade.Classed(classify(err), "cannot make day %s of table %s: %w", day, table, err)
			}
		}
	}
	return nil
}

// alone runs work on a connection that holds an advisory lock. If another session holds it, it does nothing.
func (m *Maintainer) alone(ctx context.Context, lock int64, work func(conn *pgxpool.Conn) error) error {
	conn, err := m.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	var mine bool
	if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", lock).Scan(&mine); err != nil || !mine {
		return err
	}
	defer unlock(ctx, conn, lock)
	return work(conn)
}

// unlock releases an advisory lock. If that fails it closes the session, which releases the lock as well.
func unlock(ctx context.Context, conn *pgxpool.Conn, lock int64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_unlock($1)", lock); err != nil {
		_ = conn.Conn().Close(ctx)
	}
}

// database is a pool, or one connection of it.
type database interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	Begin(ctx context.Context) (pgx.Tx, error)
}

// partitions returns the days for which a table has a partition, ascending.
func partitions(ctx context.Context, db database, table string) ([]trade.Date, error) {
	rows, err := db.Query(ctx, `SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
		WHERE i.inhparent = $1::text::regclass ORDER BY c.relname`, table)
	if err != nil {
		return nil, err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	var days []trade.Date
	for _, name := range names {
		if t, err := time.Parse("20060102", strings.TrimPrefix(name, table+"_")); err == nil { // else the default one
			days = append(days, trade.DateOf(t))
		}
	}
	return days, nil
}

// changeDays runs change in a transaction of its own, alone among all maintainers. It repeats one that got no lock.
func changeDays(ctx context.Context, db database, change func(tx pgx.Tx) error) error {
	for try := 1; ; try++ {
		err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, fmt.Sprintf(`
				SELECT pg_advisory_xact_lock(%d);
				SET LOCAL lock_timeout = '%s'; SET LOCAL statement_timeout = '10min';
				SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on`,
				dayLock, lockLimit))
			if err != nil {
				return err
			}
			return change(tx)
		})
		if code := sqlState(err); try == lockTries || code != lockNotAvailable && code != deadlockDetected {
			return err
		}
	}
}

// makeDay attaches a table for the day. Attaching an empty table blocks the default partition alone; creating a
// partition in place would block every writer.
func makeDay(ctx context.Context, tx pgx.Tx, table string, day trade.Date) error {
	partition := dayTable(table, day)
	var skip bool
	err := tx.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL
		OR EXISTS (SELECT FROM `+table+`_default WHERE accepted_on = $2)`, partition, day.Time()).Scan(&skip)
	if err != nil || skip {
		return err
	}
	_, err = tx.Exec(ctx, fmt.Sprintf(`
		CREATE TABLE %[2]s (LIKE %[1]s INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
		ALTER TABLE %[1]s ATTACH PARTITION %[2]s FOR VALUES FROM ('%[3]s') TO ('%[4]s')`, table, partition, day, day+1))
	return err
}
