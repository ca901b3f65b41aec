package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tradestore/trade"
)

// decidedKeys are the keys of a day whose requests are decided. The key of an undecided request is never deleted.
// OFFSET 0 makes the look at the journal a probe: a join would read the whole day in each step.
const decidedKeys = `FROM idempotency AS k WHERE k.accepted_on = $1
	AND EXISTS (SELECT FROM %s AS s WHERE s.accepted_on = $1 AND s.request_id = k.request_id OFFSET 0)`

// deleteDecidedKeys deletes the keys of a day that is dropped next, in steps: one statement for all would hold its
// locks for long. A key may be taken again while its old journal row still exists. The new request then has another
// day, so the old outcome is never read for it (rule K5).
func deleteDecidedKeys(ctx context.Context, conn *pgxpool.Conn, day trade.Date) error {
	query := fmt.Sprintf(`DELETE FROM idempotency WHERE request_id = ANY (ARRAY(
		SELECT k.request_id `+decidedKeys+` LIMIT $2))`, dayTable("journal", day))
	for {
		tag, err := conn.Exec(ctx, query, day.Time(), sweepStep)
		if err != nil {
			return fmt.Errorf("idempotency keys: %w", err)
		}
		if tag.RowsAffected() < sweepStep {
			return nil
		}
	}
}

// deleteLateKeys deletes the keys of requests that were decided since deleteDecidedKeys, in the transaction that drops
// the day.
func deleteLateKeys(ctx context.Context, tx pgx.Tx, day trade.Date) error {
	_, err := tx.Exec(ctx, fmt.Sprintf(`DELETE `+decidedKeys, dayTable("journal", day)), day.Time())
	return err
}
