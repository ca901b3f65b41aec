package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"tradestore/trade"
)

// history reads the decided requests of one trade in log order. Which request each one replaced is computed over all of
// them, before LIMIT.
const history = `
	SELECT generation, partition, coalesce("offset", -1), request_id, outcome, version, reason, detail,
		accepted_at, decided_at, counterparty_id, book_id,
		maturity_date - DATE '1970-01-01', created_date - DATE '1970-01-01', replay_of, replaced
	FROM (
		SELECT *, coalesce("offset", 9223372036854775807) AS place,
			CASE WHEN outcome = 'SUCCESS' THEN
				lag(request_id) OVER (PARTITION BY outcome, version ORDER BY generation, "offset") END AS replaced
		FROM journal WHERE trade_id = $1) AS s
	WHERE (generation, place, request_id) > ($2, $3, $4::uuid)
	ORDER BY generation, place, request_id LIMIT $5`

// History returns up to limit decided requests of a trade after the given position, in log order. The zero position
// starts at the first one that the journal still has. Invalid records are left out, because their trade is not known.
func (r *Reader) History(
	ctx context.Context, tradeID string, after trade.HistoryPosition, limit int,
) ([]trade.HistoryEntry, error) {
	rows, err := r.pool.Query(ctx, history, tradeID, after.Generation, after.Offset, [16]byte(after.ID), limit)
	var found []trade.HistoryEntry
	if err == nil {
		found, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (trade.HistoryEntry, error) {
			return scanHistoryEntry(row, tradeID)
		})
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the history of a trade: %w", err)
	}
	return found, nil
}

func scanHistoryEntry(row pgx.CollectableRow, tradeID string) (s trade.HistoryEntry, err error) {
	var reason, detail, counterparty, book *string
	var maturity, created *trade.Date
	var replayOf, replaced *[16]byte
	err = row.Scan(&s.Generation, &s.Partition, &s.Offset, (*[16]byte)(&s.ID), (*string)(&s.Status), &s.Version,
		&reason, &detail, &s.AcceptedAt, &s.DecidedAt, &counterparty, &book, &maturity, &created, &replayOf, &replaced)
	s.TradeID, s.Reason, s.Detail = tradeID, trade.Code(value(reason)), value(detail)
	s.AcceptedAt, s.DecidedAt = s.AcceptedAt.UTC(), s.DecidedAt.UTC()
	s.ReplayOf, s.Replaced = value(replayOf), value(replaced)
	if book != nil { // an undelivered request has no payload
		s.Trade = trade.Trade{TradeID: tradeID, Version: s.Version, CounterpartyID: value(counterparty), BookID: *book,
			MaturityDate: value(maturity), CreatedDate: value(created)}
	}
	return s, err
}

const (
	storedVersions = `SELECT ` + tradeColumns + `, stored_at, false FROM trades WHERE trade_id = $1 ORDER BY version`

	// A row without replaces may have replaced a version.
	storedBefore = `SELECT ` + tradeColumns + `, decided_at, coalesce(replaces, true) FROM journal
		WHERE trade_id = $1 AND outcome = 'SUCCESS' ORDER BY generation, "offset"`
)

// AsOf returns the versions of one trade as they were stored at an instant, ascending. It reads the journal only if a
// version was stored since. Errors: trade.ErrForgotten if the journal does not reach back that far, trade.ErrFuture.
func (r *Reader) AsOf(ctx context.Context, tradeID string, at time.Time) ([]trade.Trade, error) {
	then, err := r.asOf(ctx, tradeID, at)
	if err != nil {
		return nil, fmt.Errorf("cannot read a trade as of %s: %w", at.Format(time.RFC3339), err)
	}
	return then, nil
}

func (r *Reader) asOf(ctx context.Context, tradeID string, at time.Time) ([]trade.Trade, error) {
	var clock time.Time // has stamped what is stored, so it tells what is in the future
	if err := r.pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&clock); err != nil {
		return nil, err
	}
	if at.After(clock) {
		return nil, trade.ErrFuture
	}
	now, err := r.stored(ctx, storedVersions, tradeID)
	if err != nil {
		return nil, err
	}
	then, err := trade.AsOf(at, now, nil)
	if !errors.Is(err, trade.ErrForgotten) {
		return then, err
	}
	journal, err := r.stored(ctx, storedBefore, tradeID)
	if err != nil {
		return nil, err
	}
	return trade.AsOf(at, now, journal)
}

func (r *Reader) stored(ctx context.Context, sql, tradeID string) ([]trade.StoredAt, error) {
	rows, err := r.pool.Query(ctx, sql, tradeID)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (s trade.StoredAt, err error) {
		t := &s.Trade
		err = row.Scan(&t.TradeID, &t.Version, &t.CounterpartyID, &t.BookID, &t.MaturityDate, &t.CreatedDate,
			&s.At, &s.Replaces)
		return s, err
	})
}
