package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"tradestore/trade"
)

// DeadLetter is a record that could not be stored, and what the journal still knows of its request.
type DeadLetter struct {
	TopicID   [16]byte
	Partition int32
	Offset    int64
	DeadAt    time.Time
	RequestID trade.RequestID // zero when the record names none that can be used
	Journaled bool            // the journal still has the request: it forgets after the retention of outcomes
	ReplayOf  trade.RequestID // the request that this one repeated; zero for none, or when Journaled is false
	Reason    trade.Code
	Detail    string
	Size      int    // of the value, in bytes
	Value     []byte // nil when there is none, or when it is longer than MaxDeadValue
}

// MaxDeadValue bounds the values that DeadLetters returns, in bytes. What can be submitted is shorter.
const MaxDeadValue = 64 << 10

// DeadLetterFilter chooses dead letters. The zero value of a field chooses all.
type DeadLetterFilter struct {
	Reason     string    // the reason, or a part of the detail
	From, To   time.Time // when they died: From <= t < To
	Partitions []int32
	RequestIDs []trade.RequestID
}

// deadLetters pages by the primary key. The request is found in the journal by the place of its record.
const deadLetters = `
	SELECT d.topic_id, d.partition, d."offset", d.dead_at, d.request_id, s.request_id IS NOT NULL, s.replay_of, d.reason, d.detail,
		coalesce(length(d.value), 0), CASE WHEN length(d.value) <= $10 THEN d.value END
	FROM dead_letter d
	LEFT JOIN ingest_offsets i ON i.topic_id = d.topic_id AND i.partition = d.partition
	LEFT JOIN journal s ON s.generation = i.generation AND s.partition = d.partition AND s."offset" = d."offset"
	WHERE (d.topic_id, d.partition, d."offset") > ($1, $2, $3)
		AND ($4 = '' OR d.reason = $4 OR strpos(d.detail, $4) > 0)
		AND ($5::timestamptz IS NULL OR d.dead_at >= $5) AND ($6::timestamptz IS NULL OR d.dead_at < $6)
		AND (cardinality($7::int[]) = 0 OR d.partition = ANY ($7)) AND (cardinality($8::uuid[]) = 0 OR d.request_id = ANY ($8))
	ORDER BY d.topic_id, d.partition, d."offset" LIMIT $9`

const deadPage = 100 // dead letters in memory at once

// DeadLetters calls each for every dead letter that the filter chooses, in the order of the log for each partition, and ends
// with its first error. Nothing is held in the database meanwhile, so each may take its time.
func (r *Reader) DeadLetters(ctx context.Context, filter DeadLetterFilter, each func(*DeadLetter) error) error {
	at := DeadLetter{Partition: -1, Offset: -1}
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
		rows, err := r.pool.Query(ctx, deadLetters, at.TopicID, at.Partition, at.Offset, filter.Reason, orNull(filter.From), orNull(filter.To),
			partitions, ids, deadPage, MaxDeadValue)
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
		if len(page) < deadPage {
			return nil
		}
		at = page[len(page)-1]
	}
}

func scanDeadLetter(row pgx.CollectableRow) (d DeadLetter, err error) {
	var id, replayOf *[16]byte
	err = row.Scan(&d.TopicID, &d.Partition, &d.Offset, &d.DeadAt, &id, &d.Journaled, &replayOf, &d.Reason, &d.Detail, &d.Size, &d.Value)
	d.RequestID, d.ReplayOf = value(id), value(replayOf)
	return d, err
}
