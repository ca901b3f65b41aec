package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"tradestore/trade"
)

const (
	maxMoved   = 10_000 // undecided requests of a day that are kept when it is dropped
	scanBlocks = 1_024  // blocks of 8 KiB that one statement looks through for undecided requests
)

// While a drop waits for its locks, everybody else queues behind it. So it waits for a moment, gives up, leaves the
// others four times as long, and tries again, up to half a second. Its tries take a minute at most.
const (
	firstLockWait = 20 * time.Millisecond
	maxLockWait   = 500 * time.Millisecond
	dropTries     = 24
)

// oldDay is a day past its retention, and which tables have a partition for it.
type oldDay struct {
	date              trade.Date
	journal, requests bool
}

// drop drops the partitions of the day in one transaction, so no reader sees a decided request as PENDING again because
// its journal row is gone. First it looks which requests have no outcome, while all but late requests of that day go
// on. That takes long for a large day, but each statement is short and has a snapshot of its own, so it does not hold
// back VACUUM. Then it removes the day, within a savepoint that it repeats until it gets the locks.
func (d oldDay) drop(ctx context.Context, conn *pgxpool.Conn) error {
	if d.journal {
		if err := deleteDecidedKeys(ctx, conn, d.date); err != nil {
			return err
		}
	}
	return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if err := d.keepOthersOut(ctx, tx); err != nil {
			return err
		}
		var undecided [][16]byte
		if d.requests {
			var err error
			if undecided, err = d.undecided(ctx, tx); err != nil {
				return err
			}
		}
		wait := firstLockWait
		for try := 1; ; try++ {
			err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { return d.remove(ctx, tx, undecided, wait) })
			if code := sqlState(err); try == dropTries || code != lockNotAvailable && code != deadlockDetected {
				return err
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(4 * wait):
			}
			wait = min(2*wait, maxLockWait)
		}
	})
}

// keepOthersOut locks the partitions of the day to the end of the transaction: requests that come late wait, outcomes
// do not. An autovacuum of the day is cancelled by the server after a second.
func (d oldDay) keepOthersOut(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '5s'")
	if err == nil && d.requests {
		_, err = tx.Exec(ctx, "LOCK TABLE "+dayTable("requests", d.date)+" IN SHARE MODE")
	}
	if err == nil && d.journal {
		_, err = tx.Exec(ctx, "LOCK TABLE "+d.outcomes()+" IN SHARE UPDATE EXCLUSIVE MODE")
	}
	return err
}

// outcomes is the table that has the outcomes of the day.
func (d oldDay) outcomes() string {
	if !d.journal {
		return "journal_default"
	}
	return dayTable("journal", d.date)
}

// undecided returns the requests of the day's partition that have no outcome. There may be maxMoved at most.
func (d oldDay) undecided(ctx context.Context, tx pgx.Tx) ([][16]byte, error) {
	requests := dayTable("requests", d.date)
	var blocks uint32
	err := tx.QueryRow(ctx, `SELECT pg_relation_size($1::text::regclass) / current_setting('block_size')::bigint`,
		requests).Scan(&blocks)
	if err != nil {
		return nil, err
	}
	query := `SELECT r.request_id FROM ` + requests + ` AS r WHERE r.ctid >= $1 AND r.ctid < $2 AND NOT EXISTS (
		SELECT FROM ` + d.outcomes() + ` AS s WHERE s.accepted_on = r.accepted_on AND s.request_id = r.request_id OFFSET 0)
		LIMIT $3`
	var found [][16]byte
	for from := uint32(0); from < blocks; from += scanBlocks {
		rows, err := tx.Query(ctx, query, block(from), block(from+scanBlocks), maxMoved+1)
		if err == nil {
			found, err = pgx.AppendRows(found, rows, pgx.RowTo[[16]byte])
		}
		if err != nil {
			return nil, err
		}
		if len(found) > maxMoved {
			return nil, fmt.Errorf("more than %d requests are undecided", maxMoved)
		}
	}
	return found, nil
}

// block is the place of the first row of a block.
func block(n uint32) pgtype.TID { return pgtype.TID{BlockNumber: n, Valid: true} }

// remove drops the day and moves its undecided requests to the default partition (rule S3). It waits so long for each
// of its locks. The locks that block everyone come last, in the order of readers, and are held for a moment.
func (d oldDay) remove(ctx context.Context, tx pgx.Tx, undecided [][16]byte, wait time.Duration) error {
	_, err := tx.Exec(ctx, fmt.Sprintf("SET LOCAL lock_timeout = %d; SELECT pg_advisory_xact_lock(%d)",
		wait.Milliseconds(), dayLock))
	if err == nil && d.journal {
		undecided, err = d.stopDeciding(ctx, tx, undecided)
	}
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "LOCK TABLE ONLY journal, ONLY requests IN ACCESS EXCLUSIVE MODE"); err != nil {
		return err
	}
	if d.requests {
		requests := dayTable("requests", d.date)
		if _, err := tx.Exec(ctx, "ALTER TABLE requests DETACH PARTITION "+requests); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO requests SELECT * FROM `+requests+`
			WHERE accepted_on = $1 AND request_id = ANY($2::uuid[])`, d.date.Time(), undecided)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "DROP TABLE "+requests); err != nil {
			return err
		}
	}
	if d.journal {
		_, err = tx.Exec(ctx, "DROP TABLE "+d.outcomes())
	}
	return err
}

// stopDeciding locks the day's journal against writers and does what is due for the outcomes that came since the day
// was looked through. It returns those of the undecided requests that still are.
func (d oldDay) stopDeciding(ctx context.Context, tx pgx.Tx, undecided [][16]byte) ([][16]byte, error) {
	if _, err := tx.Exec(ctx, "LOCK TABLE "+d.outcomes()+" IN SHARE MODE"); err != nil {
		return nil, err
	}
	var unprojected bool
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM projection_cursor AS c CROSS JOIN LATERAL (
		SELECT FROM `+d.outcomes()+` AS s WHERE s.generation = c.generation AND s.partition = c.partition
			AND s."offset" >= c.projected_offset LIMIT 1) AS later)`).Scan(&unprojected)
	if err != nil {
		return nil, err
	}
	if unprojected {
		return nil, errors.New("outcomes were not yet projected to the request store")
	}
	// Requests of the day that strayed are deleted with their journal rows.
	_, err = tx.Exec(ctx, `DELETE FROM requests_default AS r WHERE accepted_on = $1
		AND EXISTS (SELECT FROM `+d.outcomes()+` AS s WHERE s.accepted_on = $1 AND s.request_id = r.request_id OFFSET 0)`,
		d.date.Time())
	if err == nil {
		err = deleteLateKeys(ctx, tx, d.date)
	}
	if err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, `SELECT u.id FROM unnest($2::uuid[]) AS u(id) WHERE NOT EXISTS (
		SELECT FROM `+d.outcomes()+` WHERE accepted_on = $1 AND request_id = u.id OFFSET 0)`, d.date.Time(), undecided)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[[16]byte])
}
