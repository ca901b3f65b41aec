package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tradestore/trade"
)

// decidedKeys are the keys of a day whose requests are decided; the key of an undecided request is never given up.
const decidedKeys = `FROM idempotency AS k WHERE k.accepted_on = $1
	AND EXISTS (SELECT FROM %s AS s WHERE s.accepted_on = $1 AND s.request_id = k.request_id)`

// freeKeys frees the keys of a day that is about to be dropped, in steps: one step would hold up the drop, and keep its
// locks for long. A key that is free while its journal row is still there is taken again under another day, so what is
// said of the old request can't be taken for the new one.
func freeKeys(ctx context.Context, conn *pgxpool.Conn, day trade.Date) error {
	query := fmt.Sprintf(`DELETE FROM idempotency WHERE request_id = ANY (ARRAY(SELECT k.request_id `+decidedKeys+` LIMIT $2))`,
		dayTable("journal", day))
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

// freeLastKeys frees the keys of requests that were decided since freeKeys, in the transaction that drops the day.
func freeLastKeys(ctx context.Context, tx pgx.Tx, day trade.Date) error {
	_, err := tx.Exec(ctx, fmt.Sprintf(`DELETE `+decidedKeys, dayTable("journal", day)), day.Time())
	return err
}
