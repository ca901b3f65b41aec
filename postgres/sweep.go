package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"tradestore/trade"
)

const sweepStep = 1_000 // rows deleted by one statement

// Sweep deletes what is older than the retention: whole days of the journal, with their PENDING rows and keys; strays
// and dead letters in steps of 1,000 rows. It never deletes a request that is PENDING (rule S3), nor an outcome that
// was not projected. What could not be deleted is an error beside the counts, and the next sweep tries again.
func (m *Maintainer) Sweep(ctx context.Context, now time.Time, r trade.Retention) (trade.Swept, error) {
	var swept trade.Swept
	if r.Outcomes <= 0 || r.DeadLetters <= 0 {
		return swept, trade.Classed(trade.Broken, "cannot sweep: a retention of %s and %s keeps nothing",
			r.Outcomes, r.DeadLetters)
	}
	err := m.alone(ctx, sweepLock, func(conn *pgxpool.Conn) error {
		return errors.Join(
			sweepDays(ctx, conn, &swept, trade.DateOf(now.Add(-r.Outcomes))),
			sweepStrays(ctx, conn, &swept, now.Add(-r.Outcomes)),
			sweepDeadLetters(ctx, conn, &swept, now.Add(-r.DeadLetters)),
		)
	})
	if err != nil {
		return swept, trade.Classed(classOf(err), "cannot sweep all: %w", err)
	}
	return swept, nil
}

// sweepDays drops the days before the given one, the oldest first. A day that can't be dropped does not stop the next.
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
		if err := d.drop(ctx, conn); err != nil {
			errs = append(errs, fmt.Errorf("day %s stays: %w", day, err))
			continue
		}
		if d.journal {
			swept.JournalDays++
		}
	}
	return errors.Join(errs...)
}

// sweepStrays deletes old rows of the default partitions: journal row, PENDING row and key with one statement. The
// outcome of a request that was decided late is kept for the whole retention from its decision.
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
