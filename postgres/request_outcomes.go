package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"tradestore/trade"
)

// readEnded finds each request by the key of its journal row. The trade of an invalid record is read from its PENDING
// row.
const readEnded = `
	SELECT s.request_id, s.outcome, coalesce(s.trade_id, r.trade_id), coalesce(s.version, r.version),
		s.reason, s.detail, s.accepted_at, s.decided_at
	FROM unnest($1::date[], $2::uuid[]) AS u(day, id)
	CROSS JOIN LATERAL (SELECT * FROM journal WHERE accepted_on = u.day AND request_id = u.id OFFSET 0) AS s
	LEFT JOIN LATERAL (
		SELECT trade_id, version FROM requests WHERE s.trade_id IS NULL AND accepted_on = u.day AND request_id = u.id OFFSET 0
	) AS r ON true`

// Ended returns the states of those of the given requests that have an outcome. It sees every outcome that was
// committed before the call. Any error means that the database can't answer now.
func (s *RequestStore) Ended(ctx context.Context, ids []trade.RequestID) ([]trade.RequestState, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	days, keys, err := s.daysOfIDs(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("cannot read %d requests: %w", len(ids), err)
	}
	rows, err := s.pool.Query(ctx, readEnded, days, keys)
	if err != nil {
		return nil, fmt.Errorf("cannot read %d requests: %w", len(ids), err)
	}
	states, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r trade.RequestState, err error) {
		var tradeID, reason, detail *string
		var version *int32
		err = row.Scan((*[16]byte)(&r.ID), (*string)(&r.Status), &tradeID, &version, &reason, &detail,
			&r.AcceptedAt, &r.DecidedAt)
		r.TradeID, r.Version, r.Reason, r.Detail = value(tradeID), value(version), trade.Code(value(reason)), value(detail)
		r.AcceptedAt, r.DecidedAt = r.AcceptedAt.UTC(), r.DecidedAt.UTC()
		return r, err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read %d requests: %w", len(ids), err)
	}
	return states, nil
}

// daysOfIDs is days for many requests. It returns the requests whose day is known, and their days.
func (s *RequestStore) daysOfIDs(
	ctx context.Context, ids []trade.RequestID,
) (days []time.Time, keys [][16]byte, err error) {
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
	rows, err := s.pool.Query(ctx, `
		SELECT accepted_on, request_id FROM idempotency WHERE request_id = ANY($1::uuid[])`, derived)
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
