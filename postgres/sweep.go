package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tradestore/trade"
)

const (
	sweepStep = 1_000  // rows deleted by one statement
	maxMoved  = 10_000 // undecided requests of a day that are moved before it is dropped
)

// Sweep deletes what is older than the retention: days of the journal whole, with their PENDING rows and keys, strays and dead
// letters in steps of 1,000 rows. A request that is still PENDING is never deleted, nor is an outcome that the request
// log has not been shown. What could not be deleted is an error beside the counts, and is tried again by the next sweep.
func (k *Maintainer) Sweep(ctx context.Context, now time.Time, r trade.Retention) (trade.Swept, error) {
	var swept trade.Swept
	if r.Outcomes <= 0 || r.DeadLetters <= 0 {
		return swept, trade.Classed(trade.Broken, "cannot sweep: a retention of %s and %s keeps nothing", r.Outcomes, r.DeadLetters)
	}
	conn, err := k.pool.Acquire(ctx)
	if err != nil {
		return swept, trade.Classed(classify(err), "cannot sweep: %w", err)
	}
	defer conn.Release()
	var mine bool
	if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", sweepLock).Scan(&mine); err != nil || !mine {
		if err != nil {
			err = trade.Classed(classify(err), "cannot sweep: %w", err)
		}
		return swept, err
	}
	defer unlock(ctx, conn)

	err = errors.Join(
		sweepDays(ctx, conn, &swept, trade.DateOf(now.Add(-r.Outcomes))),
		sweepStrays(ctx, conn, &swept, now.Add(-r.Outcomes)),
		sweepDeadLetters(ctx, conn, &swept, now.Add(-r.DeadLetters)),
	)
	if err != nil {
		return swept, trade.Classed(classOf(err), "cannot sweep all: %w", err)
	}
	return swept, nil
}

// unlock gives the sweep lock back. Where that fails the session is closed, which does it too.
func unlock(ctx context.Context, conn *pgxpool.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_unlock($1)", sweepLock); err != nil {
		_ = conn.Conn().Close(ctx)
	}
}

// sweepDays drops the days before the one given, oldest first. A day that can't be dropped does not hold up the next.
func sweepDays(ctx context.Context, conn *pgxpool.Conn, swept *trade.Swept, before trade.Date) error {
	journal, err := partitions(ctx, conn, "journal")
	if err != nil {
		return err
	}
	requests, err := partitions(ctx, conn, "requests")
	if err != nil {
		return err
	}
	days := slices.Concat(journal, requests)
	slices.Sort(days)
	var errs []error
	for _, day := range slices.Compact(days) {
		if day >= before {
			break
		}
		d := oldDay{date: day, journal: slices.Contains(journal, day), requests: slices.Contains(requests, day)}
		var err error
		if d.journal {
			err = freeKeys(ctx, conn, day)
		}
		if err == nil {
			err = changeDays(ctx, conn, func(tx pgx.Tx) error { return d.drop(ctx, tx) })
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("day %s stays: %w", day, err))
			continue
		}
		if d.journal {
			swept.JournalDays++
		}
	}
	return errors.Join(errs...)
}

// oldDay is a day past its retention, and which tables have a partition for it.
type oldDay struct {
	date              trade.Date
	journal, requests bool
}

// drop drops the partitions of the day in one transaction: a reader sees a decided request whole or not at all, never
// PENDING again for want of its journal row. The day's partitions are closed to writers first, so that nothing is decided
// between the look and the drop; the locks that stall everyone come last and are held for a moment.
func (d oldDay) drop(ctx context.Context, tx pgx.Tx) error {
	journal, requests := dayTable("journal", d.date), dayTable("requests", d.date)
	day := d.date.Time()
	if d.journal {
		if _, err := tx.Exec(ctx, "LOCK TABLE "+journal+" IN SHARE MODE"); err != nil {
			return err
		}
		if err := refuse(ctx, tx, "outcomes were not yet shown to the request store", `
			SELECT EXISTS (SELECT FROM projection_cursor AS c JOIN `+journal+` AS s
				ON s.generation = c.generation AND s.partition = c.partition AND s."offset" >= c.projected_offset)`); err != nil {
			return err
		}
		// Requests of the day that strayed go with their journal rows.
		if _, err := tx.Exec(ctx, `DELETE FROM requests_default AS r WHERE accepted_on = $1
			AND EXISTS (SELECT FROM `+journal+` AS s WHERE s.accepted_on = $1 AND s.request_id = r.request_id)`, day); err != nil {
			return err
		}
		if err := freeLastKeys(ctx, tx, d.date); err != nil {
			return err
		}
	}
	if d.requests {
		if err := d.dropRequests(ctx, tx, requests); err != nil {
			return err
		}
	}
	if d.journal {
		_, err := tx.Exec(ctx, "DROP TABLE "+journal)
		return err
	}
	return nil
}

// dropRequests drops the day's partition of the request store and inserts the undecided requests again: with the partition
// gone they land in the default one.
func (d oldDay) dropRequests(ctx context.Context, tx pgx.Tx, requests string) error {
	if _, err := tx.Exec(ctx, "LOCK TABLE "+requests+" IN SHARE MODE"); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `CREATE TEMPORARY TABLE undecided ON COMMIT DROP AS
		SELECT * FROM `+requests+` AS r
		WHERE NOT EXISTS (SELECT FROM journal AS s WHERE s.accepted_on = '`+d.date.String()+`' AND s.request_id = r.request_id)
		LIMIT `+fmt.Sprint(maxMoved+1))
	if err != nil {
		return err
	}
	if err := refuse(ctx, tx, fmt.Sprintf("more than %d requests are undecided", maxMoved),
		"SELECT count(*) > $1 FROM undecided", maxMoved); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `DROP TABLE `+requests+`;
		INSERT INTO requests SELECT * FROM undecided`)
	return err
}

// refuse returns an error with the reason given if the query says true.
func refuse(ctx context.Context, tx pgx.Tx, reason, query string, args ...any) error {
	var yes bool
	if err := tx.QueryRow(ctx, query, args...).Scan(&yes); err != nil {
		return err
	}
	if yes {
		return errors.New(reason)
	}
	return nil
}

// sweepStrays deletes what strayed into the default partitions: journal row, PENDING row and key by one statement. The outcome
// of a request that was decided late is kept for the whole retention from then on.
func sweepStrays(ctx context.Context, conn *pgxpool.Conn, swept *trade.Swept, before time.Time) error {
	for {
		var journal, pending int
		err := conn.QueryRow(ctx, `
			WITH old AS (
				SELECT accepted_on, request_id FROM journal_default AS s
				WHERE accepted_on < $1 AND decided_at < $2
				  AND NOT EXISTS (SELECT FROM projection_cursor AS c WHERE c.generation = s.generation
					AND c.partition = s.partition AND s."offset" >= c.projected_offset)
				ORDER BY accepted_on, request_id LIMIT $3
			), p AS (
				DELETE FROM requests AS r USING old
				WHERE r.accepted_on = old.accepted_on AND r.request_id = old.request_id RETURNING 1
			), k AS (
				DELETE FROM idempotency AS k USING old
				WHERE k.accepted_on = old.accepted_on AND k.request_id = old.request_id
			), j AS (
				DELETE FROM journal_default AS s USING old
				WHERE s.accepted_on = old.accepted_on AND s.request_id = old.request_id RETURNING 1
			)
			SELECT (SELECT count(*) FROM j), (SELECT count(*) FROM p)`,
			trade.DateOf(before).Time(), before, sweepStep).Scan(&journal, &pending)
		if err != nil {
			return fmt.Errorf("strays of the journal: %w", err)
		}
		swept.JournalRows += journal
		swept.PendingRows += pending
		if journal < sweepStep {
			return nil
		}
	}
}

func sweepDeadLetters(ctx context.Context, conn *pgxpool.Conn, swept *trade.Swept, before time.Time) error {
	for {
		tag, err := conn.Exec(ctx, `DELETE FROM dead_letter WHERE ctid = ANY (ARRAY(
			SELECT ctid FROM dead_letter WHERE dead_at < $1 ORDER BY dead_at LIMIT $2))`, before, sweepStep)
		if err != nil {
			return fmt.Errorf("dead letters: %w", err)
		}
		swept.DeadLetters += int(tag.RowsAffected())
		if tag.RowsAffected() < sweepStep {
			return nil
		}
	}
}
