package postgres

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"tradestore/trade"
)

// cursor is the progress of one partition. from is the first offset that was not read yet.
type cursor struct {
	generation, partition int32
	from                  int64
}

// journalFrom reads the journal after several cursors: up to $4 rows of each, in offset order. One transaction at a
// time applies a partition of the log, so a row never appears before one that was already read.
const journalFrom = `
	SELECT s.generation, s.partition, s."offset", s.request_id, s.outcome, s.trade_id, s.version, s.reason, s.detail,
		s.accepted_at, s.decided_at, s.correlation_id, s.traceparent
	FROM unnest($1::integer[], $2::integer[], $3::bigint[]) AS c(generation, partition, from_offset)
	CROSS JOIN LATERAL (
		SELECT * FROM journal
		WHERE generation = c.generation AND partition = c.partition AND "offset" >= c.from_offset
		ORDER BY "offset" LIMIT $4) AS s`

// Unprojected returns up to limit outcomes after the cursors of the given partitions, of every generation, each
// partition in offset order (rule A7). All earlier outcomes of a partition are projected or in the result. Fewer than
// limit means that there are no more.
func (s *Store) Unprojected(ctx context.Context, partitions []int32, limit int) ([]trade.Decision, error) {
	cursors, err := s.cursors(ctx, partitions)
	if err != nil {
		return nil, trade.Classed(classify(err), "cannot read the projection cursors: %w", err)
	}
	var outcomes []trade.Decision
	for len(cursors) > 0 && len(outcomes) < limit {
		// Every cursor gets an equal share of what is left, so that a long backlog of one does not starve the others.
		// A cursor that used all of its share may have more, and takes part in the next round.
		left := limit - len(outcomes)
		first, rest := cursors[:min(len(cursors), left)], cursors[min(len(cursors), left):]
		share := left / len(first)
		found, err := s.readJournal(ctx, first, share)
		if err != nil {
			return nil, trade.Classed(classify(err), "cannot read the journal: %w", err)
		}
		outcomes = append(outcomes, found...)
		cursors = slices.Concat(rest, unfinished(first, found, share))
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

// readJournal reads up to share outcomes after each of the cursors.
func (s *Store) readJournal(ctx context.Context, cursors []cursor, share int) ([]trade.Decision, error) {
	generations, partitions := make([]int32, len(cursors)), make([]int32, len(cursors))
	from := make([]int64, len(cursors))
	for i, c := range cursors {
		generations[i], partitions[i], from[i] = c.generation, c.partition, c.from
	}
	rows, err := s.pool.Query(ctx, journalFrom, generations, partitions, from, share)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanDecision)
}

// After returns the outcomes at and after each of the given positions: up to limit of each, in the order of their
// offsets. Undelivered requests have no offset and are left out.
func (s *Store) After(ctx context.Context, from []trade.Position, limit int) ([]trade.Decision, error) {
	cursors := make([]cursor, len(from))
	for i, p := range from {
		cursors[i] = cursor{p.Generation, p.Partition, p.NextOffset}
	}
	outcomes, err := s.readJournal(ctx, cursors, limit)
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

// value returns *p, and the zero value for NULL.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// unfinished returns the cursors that read their whole share, moved after it.
func unfinished(cursors []cursor, found []trade.Decision, share int) []cursor {
	type key struct{ generation, partition int32 }
	count := make(map[key]int, len(cursors))
	next := make(map[key]int64, len(cursors))
	for i := range found {
		k := key{found[i].Generation, found[i].Partition}
		count[k]++
		next[k] = found[i].Offset + 1
	}
	var rest []cursor
	for _, c := range cursors {
		if k := (key{c.generation, c.partition}); count[k] == share {
			rest = append(rest, cursor{c.generation, c.partition, next[k]})
		}
	}
	return rest
}

// Pass moves the cursors of the given partitions to their positions, in every generation. That is after all outcomes,
// because an outcome commits together with the position after it. Rows are locked in key order, as in movePositions.
func (s *Store) Pass(ctx context.Context, partitions []int32) error {
	_, err := s.pool.Exec(ctx, `
		UPDATE projection_cursor SET projected_offset = moved.next
		FROM (
			SELECT c.generation, c.partition, o.next_offset AS next
			FROM projection_cursor AS c
			JOIN ingest_offsets AS o ON o.generation = c.generation AND o.partition = c.partition
			WHERE c.partition = ANY($1) AND c.projected_offset < o.next_offset
			ORDER BY c.generation, c.partition
			FOR UPDATE OF c
		) AS moved
		WHERE projection_cursor.generation = moved.generation AND projection_cursor.partition = moved.partition
		  AND projection_cursor.projected_offset < moved.next`, partitions)
	if err != nil {
		return trade.Classed(classify(err), "cannot move the projection cursors to the positions: %w", err)
	}
	return nil
}

// Projected moves the cursors after the given outcomes, which one call of Unprojected returned. A cursor that another
// projector has moved further stays there. Rows are locked in key order, as in movePositions.
func (s *Store) Projected(ctx context.Context, outcomes []trade.Decision) error {
	if len(outcomes) == 0 {
		return nil
	}
	var generations, partitions []int32
	var next []int64
	for i, o := range outcomes {
		last := i == len(outcomes)-1
		if !last && outcomes[i+1].Generation == o.Generation && outcomes[i+1].Partition == o.Partition {
			continue // a later outcome of the same partition moves the cursor further
		}
		generations, partitions = append(generations, o.Generation), append(partitions, o.Partition)
		next = append(next, o.Offset+1)
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
		return trade.Classed(classify(err), "cannot move the projection cursors past %d outcomes: %w", len(outcomes), err)
	}
	return nil
}
