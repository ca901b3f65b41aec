package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"tradestore/trade"
)

// DeadLetter is a record that could not be stored, with what the journal still knows of its request.
type DeadLetter struct {
	TopicID   [16]byte
	Partition int32
	Offset    int64
	DeadAt    time.Time
	RequestID trade.RequestID // zero when the record has no valid one
	Journaled bool            // the journal still has the request; it is deleted after the retention of outcomes
	ReplayOf  trade.RequestID // the request that this one replayed; zero for none, or when Journaled is false
	Reason    trade.Code
	Detail    string
	Size      int    // of the value, in bytes
	Value     []byte // nil when there is none, or when it is longer than MaxDeadValue
}

// MaxDeadValue is the longest value that DeadLetters returns, in bytes. What clients can submit is shorter.
const MaxDeadValue = 64 << 10

// DeadLetterFilter selects dead letters. The zero value of a field selects all.
type DeadLetterFilter struct {
	Reason     string    // the reason, or a part of the detail
	From, To   time.Time // From <= DeadAt < To
	Partitions []int32
	RequestIDs []trade.RequestID
}

// deadLetters pages by the primary key. The offset of the record leads to its journal row.
const deadLetters = `
	SELECT d.topic_id, d.partition, d."offset", d.dead_at, d.request_id, s.request_id IS NOT NULL, s.replay_of,
		d.reason, d.detail, coalesce(length(d.value), 0), CASE WHEN length(d.value) <= $10 THEN d.value END
	FROM dead_letter d
	LEFT JOIN ingest_offsets i ON i.topic_id = d.topic_id AND i.partition = d.partition
	LEFT JOIN journal s ON s.generation = i.generation AND s.partition = d.partition AND s."offset" = d."offset"
	WHERE (d.topic_id, d.partition, d."offset") > ($1, $2, $3)
		AND ($4 = '' OR d.reason = $4 OR strpos(d.detail, $4) > 0)
		AND ($5::timestamptz IS NULL OR d.dead_at >= $5) AND ($6::timestamptz IS NULL OR d.dead_at < $6)
		AND (cardinality($7::int[]) = 0 OR d.partition = ANY ($7))
		AND (cardinality($8::uuid[]) = 0 OR d.request_id = ANY ($8))
	ORDER BY d.topic_id, d.partition, d."offset" LIMIT $9`

const deadLetterPage = 100 // dead letters in memory at once

// DeadLetters calls each for every dead letter that the filter selects, in log order within a partition. It returns the
// first error of each. No transaction is open during a call of each, so it may be slow.
func (r *Reader) DeadLetters(ctx context.Context, filter DeadLetterFilter, each func(*DeadLetter) error) error {
	last := DeadLetter{Partition: -1, Offset: -1}
	orNull := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		return &t
	}
	ids := make([][16]byte, len(filter.RequestIDs))
	for i, id := range filter.RequestIDs {
		ids[i] = id
	}
	partitions := append([]int32{}, filter.Partitions...)
	for {
		rows, err := r.pool.Query(ctx, deadLetters, last.TopicID, last.Partition, last.Offset,
			filter.Reason, orNull(filter.From), orNull(filter.To), partitions, ids, deadLetterPage, MaxDeadValue)
		var page []DeadLetter
		if err == nil {
			page, err = pgx.CollectRows(rows, scanDeadLetter)
		}
		if err != nil {
			return fmt.Errorf("cannot read dead letters: %w", err)
		}
		for i := range page {
			if err := each(&page[i]); err != nil {
				return err
			}
		}
		if len(page) < deadLetterPage {
			return nil
		}
		last = page[len(page)-1]
	}
}

func scanDeadLetter(row pgx.CollectableRow) (d DeadLetter, err error) {
	var id, replayOf *[16]byte
	err = row.Scan(&d.TopicID, &d.Partition, &d.Offset, &d.DeadAt, &id, &d.Journaled, &replayOf,
		&d.Reason, &d.Detail, &d.Size, &d.Value)
	d.RequestID, d.ReplayOf = value(id), value(replayOf)
	return d, err
}
