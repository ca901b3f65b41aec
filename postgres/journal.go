package postgres

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"tradestore/trade"
)

// cursor is how far one partition is projected. from is the first offset that is not.
type cursor struct {
	generation, partition int32
	from                  int64
}

// unsettledFrom reads the journal behind several cursors: up to $4 rows of each, in offset order. A partition of the log
// is applied by one transaction at a time, so no row ever appears before one that was read.
const unprojectedFrom = `
	SELECT s.generation, s.partition, s."offset", s.request_id, s.outcome, s.trade_id, s.version, s.reason, s.detail,
		s.accepted_at, s.decided_at, s.correlation_id, s.traceparent
	FROM unnest($1::integer[], $2::integer[], $3::bigint[]) AS c(generation, partition, from_offset)
	CROSS JOIN LATERAL (
		SELECT * FROM journal
		WHERE generation = c.generation AND partition = c.partition AND "offset" >= c.from_offset
		ORDER BY "offset" LIMIT $4) AS s`

// Unprojected returns up to limit outcomes behind the cursors of the partitions given, of every generation, each partition
// in offset order; all of the partition's earlier outcomes are projected or in the result. Less than limit means that
// there are no more.
func (s *Store) Unprojected(ctx context.Context, partitions []int32, limit int) ([]trade.Decision, error) {
	cursors, err := s.cursors(ctx, partitions)
	if err != nil {
		return nil, trade.Classed(classify(err), "cannot read the project cursors: %w", err)
	}
	var outcomes []trade.Decision
	for len(cursors) > 0 && len(outcomes) < limit {
		// Every cursor gets an equal share of what is left, so that a long backlog of one doesn't starve the others.
		// Those that used up their share may have more and take part in the next round.
		left := limit - len(outcomes)
		asked, rest := cursors[:min(len(cursors), left)], cursors[min(len(cursors), left):]
		share := left / len(asked)
		found, err := s.behind(ctx, asked, share)
		if err != nil {
			return nil, trade.Classed(classify(err), "cannot read the journal: %w", err)
		}
		outcomes = append(outcomes, found...)
		cursors = slices.Concat(rest, unfinished(asked, found, share))
	}
	return outcomes, nil
}

func (s *Store) cursors(ctx context.Context, partitions []int32) ([]cursor, error) {
	rows, err := s.pool.Query(ctx, `SELECT generation, partition, projected_offset FROM projection_cursor
		WHERE partition = ANY($1) ORDER BY generation, partition`, partitions)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (c cursor, err error) {
		err = row.Scan(&c.generation, &c.partition, &c.from)
		return c, err
	})
}

// behind reads up to share outcomes behind each of the cursors.
func (s *Store) behind(ctx context.Context, cursors []cursor, share int) ([]trade.Decision, error) {
	generations, partitions := make([]int32, len(cursors)), make([]int32, len(cursors))
	from := make([]int64, len(cursors))
	for i, c := range cursors {
		generations[i], partitions[i], from[i] = c.generation, c.partition, c.from
	}
	rows, err := s.pool.Query(ctx, unprojectedFrom, generations, partitions, from, share)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanDecision)
}

// After returns the outcomes of each partition given, of its generation, from its position on: up to limit of each, in the
// order of their offsets. Requests that were closed without a record have no place in that order.
func (s *Store) After(ctx context.Context, from []trade.Position, limit int) ([]trade.Decision, error) {
	cursors := make([]cursor, len(from))
	for i, p := range from {
		cursors[i] = cursor{p.Generation, p.Partition, p.NextOffset}
	}
	outcomes, err := s.behind(ctx, cursors, limit)
	if err != nil {
		return nil, trade.Classed(classify(err), "cannot read the journal after %d positions: %w", len(from), err)
	}
	return outcomes, nil
}

func scanDecision(row pgx.CollectableRow) (o trade.Decision, err error) {
	var tradeID, reason, detail, correlationID, traceParent *string
	var version *int32
	err = row.Scan(&o.Generation, &o.Partition, &o.Offset, (*[16]byte)(&o.ID), (*string)(&o.Status), &tradeID, &version,
		&reason, &detail, &o.AcceptedAt, &o.DecidedAt, &correlationID, &traceParent)
	o.TradeID, o.Version, o.Reason, o.Detail = value(tradeID), value(version), trade.Code(value(reason)), value(detail)
	o.AcceptedAt, o.DecidedAt = o.AcceptedAt.UTC(), o.DecidedAt.UTC()
	o.CorrelationID, o.TraceParent = value(correlationID), value(traceParent)
	return o, err
}

// value returns what p points to, the zero value for NULL.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// unfinished returns the cursors that found their whole share, moved past it.
func unfinished(cursors []cursor, found []trade.Decision, share int) []cursor {
	type part struct{ generation, partition int32 }
	got := make(map[part]int, len(cursors))
	next := make(map[part]int64, len(cursors))
	for i := range found {
		p := part{found[i].Generation, found[i].Partition}
		got[p]++
		next[p] = found[i].Offset + 1
	}
	var rest []cursor
	for _, c := range cursors {
		if p := (part{c.generation, c.partition}); got[p] == share {
			rest = append(rest, cursor{c.generation, c.partition, next[p]})
		}
	}
	return rest
}

// Pass moves the cursors of the partitions given to their positions, in every generation: past all outcomes, for each was
// committed together with the position behind it. Rows are locked in the order of their key, like in moveOn.
func (s *Store) Pass(ctx context.Context, partitions []int32) error {
	_, err := s.pool.Exec(ctx, `
		UPDATE projection_cursor SET projected_offset = moved.next
		FROM (
			SELECT c.generation, c.partition, o.next_offset AS next
			FROM projection_cursor AS c JOIN ingest_offsets AS o ON o.generation = c.generation AND o.partition = c.partition
			WHERE c.partition = ANY($1) AND c.projected_offset < o.next_offset
			ORDER BY c.generation, c.partition
			FOR UPDATE OF c
		) AS moved
		WHERE projection_cursor.generation = moved.generation AND projection_cursor.partition = moved.partition
		  AND projection_cursor.projected_offset < moved.next`, partitions)
	if err != nil {
		return trade.Classed(classify(err), "cannot move the project cursors to the positions: %w", err)
	}
	return nil
}

// Projected moves the cursors past the outcomes given, which came from one call of Unprojected. A cursor that another
// projector has moved further stays there. Rows are locked in the order of their key, like in moveOn.
func (s *Store) Projected(ctx context.Context, outcomes []trade.Decision) error {
	if len(outcomes) == 0 {
		return nil
	}
	var generations, partitions []int32
	var next []int64
	for i, o := range outcomes {
		last := i == len(outcomes)-1
		if !last && outcomes[i+1].Generation == o.Generation && outcomes[i+1].Partition == o.Partition {
			continue // a later outcome of the same run moves the cursor further
		}
		generations, partitions, next = append(generations, o.Generation), append(partitions, o.Partition), append(next, o.Offset+1)
	}
	_, err := s.pool.Exec(ctx, `
		UPDATE projection_cursor SET projected_offset = moved.next
		FROM (
			SELECT c.generation, c.partition, m.next
			FROM (
				SELECT generation, partition, max(next) AS next
				FROM unnest($1::integer[], $2::integer[], $3::bigint[]) AS u(generation, partition, next)
				GROUP BY generation, partition
			) AS m
			JOIN projection_cursor AS c ON c.generation = m.generation AND c.partition = m.partition
			ORDER BY c.generation, c.partition
			FOR UPDATE OF c
		) AS moved
		WHERE projection_cursor.generation = moved.generation AND projection_cursor.partition = moved.partition
		  AND projection_cursor.projected_offset < moved.next`, generations, partitions, next)
	if err != nil {
		return trade.Classed(classify(err), "cannot move the project cursors past %d outcomes: %w", len(outcomes), err)
	}
	return nil
}
