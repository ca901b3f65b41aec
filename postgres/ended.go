package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"tradestore/trade"
)

// readEnded finds each request by the key of its journal row. What a record that could not be stored was accepted with
// stands in its PENDING row.
const readEnded = `
	SELECT s.request_id, s.outcome, coalesce(s.trade_id, r.trade_id), coalesce(s.version, r.version), s.reason, s.detail, s.accepted_at, s.decided_at
	FROM unnest($1::date[], $2::uuid[]) AS u(day, id)
	CROSS JOIN LATERAL (SELECT * FROM journal WHERE accepted_on = u.day AND request_id = u.id OFFSET 0) AS s
	LEFT JOIN LATERAL (
		SELECT trade_id, version FROM requests WHERE s.trade_id IS NULL AND accepted_on = u.day AND request_id = u.id OFFSET 0
	) AS r ON true`

// Ended returns the states of those of the requests given that have ended, strongly consistent with every committed
// outcome before the call. Any error means that the database can't answer now.
func (l *RequestStore) Ended(ctx context.Context, ids []trade.RequestID) ([]trade.RequestState, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	days, keys, err := l.daysOfAll(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("cannot read %d requests: %w", len(ids), err)
	}
	rows, err := l.pool.Query(ctx, readEnded, days, keys)
	if err != nil {
		return nil, fmt.Errorf("cannot read %d requests: %w", len(ids), err)
	}
	states, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s trade.RequestState, err error) {
		var tradeID, reason, detail *string
		var version *int32
		err = row.Scan((*[16]byte)(&s.ID), (*string)(&s.Status), &tradeID, &version, &reason, &detail, &s.AcceptedAt, &s.DecidedAt)
		s.TradeID, s.Version, s.Reason, s.Detail = value(tradeID), value(version), trade.Code(value(reason)), value(detail)
		s.AcceptedAt, s.DecidedAt = s.AcceptedAt.UTC(), s.DecidedAt.UTC()
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read %d requests: %w", len(ids), err)
	}
	return states, nil
}

// daysOfAll is days for many requests: those whose day is not known have no entry.
func (l *RequestStore) daysOfAll(ctx context.Context, ids []trade.RequestID) (days []time.Time, keys [][16]byte, err error) {
	var derived [][16]byte
	for _, id := range ids {
		if day, ok := id.Day(); ok {
			days, keys = append(days, day.Time()), append(keys, id)
		} else {
			derived = append(derived, id)
		}
	}
	if len(derived) == 0 {
		return days, keys, nil
	}
	rows, err := l.pool.Query(ctx, `SELECT accepted_on, request_id FROM idempotency WHERE request_id = ANY($1::uuid[])`, derived)
	if err != nil {
		return nil, nil, err
	}
	var day time.Time
	var key [16]byte
	_, err = pgx.ForEachRow(rows, []any{&day, &key}, func() error {
		days, keys = append(days, day), append(keys, key)
		return nil
	})
	return days, keys, err
}
