package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"tradestore/trade"
)

// readEnded finds each request by the key of its journal row. The trade of an invalid record is read from its PENDING
// row.
const readEnded dayQuery = `
	SELECT s.request_id, s.outcome, coalesce(s.trade_id, r.trade_id), coalesce(s.version, r.version),
		s.reason, s.detail, s.accepted_at, s.decided_at
	FROM unnest($2::uuid[]) AS u(id)
	CROSS JOIN LATERAL (SELECT * FROM %[1]s WHERE accepted_on = $1 AND request_id = u.id OFFSET 0) AS s
	LEFT JOIN LATERAL (
		SELECT trade_id, version FROM %[2]s WHERE s.trade_id IS NULL AND accepted_on = $1 AND request_id = u.id OFFSET 0
	) AS r ON true`

// Ended returns the states of those of the given requests that have an outcome. It sees every outcome that was
// committed before the call. Any error means that the database can't answer now.
func (s *RequestStore) Ended(ctx context.Context, ids []trade.RequestID) ([]trade.RequestState, error) {
	days, err := s.daysOf(ctx, ids...)
	var states []trade.RequestState
	for _, day := range days {
		if err == nil {
			err = s.onDay(ctx, readEnded, day.date, []any{day.ids}, func(rows pgx.Rows) (err error) {
				states, err = pgx.AppendRows(states, rows, scanEnded)
				return err
			})
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read %d requests: %w", len(ids), err)
	}
	return states, nil
}

func scanEnded(row pgx.CollectableRow) (r trade.RequestState, err error) {
	var tradeID, reason, detail *string
	var version *int32
	err = row.Scan((*[16]byte)(&r.ID), (*string)(&r.Status), &tradeID, &version, &reason, &detail,
		&r.AcceptedAt, &r.DecidedAt)
	r.TradeID, r.Version, r.Reason, r.Detail = value(tradeID), value(version), trade.Code(value(reason)), value(detail)
	r.AcceptedAt, r.DecidedAt = r.AcceptedAt.UTC(), r.DecidedAt.UTC()
	return r, err
}
