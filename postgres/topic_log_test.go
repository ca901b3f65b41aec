package postgres

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

// topicLog is a topic in memory: tests append records and apply what was appended, like a worker that owns every
// partition.
type topicLog struct {
	t       testing.TB
	db      *testDatabase
	store   *Store
	topic   trade.TopicID
	gen     int32
	next    [testPartitions]int64 // log end
	applied [testPartitions]int64 // position
	pending []trade.Record
	seq     int
}

// testNow is the current time in tests. Accepted and decided times derive from it.
var testNow = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func newTopicLog(t testing.TB) *topicLog {
	d := newDatabase(t)
	return &topicLog{t: t, db: d, store: newStore(d), topic: testTopicID, gen: 1}
}

func newStore(d *testDatabase) *Store {
	return NewStore(d.writer, StoreConfig{Topic: testTopic, Now: func() time.Time { return testNow.Add(time.Second) }})
}

func newTrade(id string, version int32, book string) trade.Trade {
	day := trade.DateOf(testNow)
	return trade.Trade{TradeID: id, Version: version, CounterpartyID: "CP-1", BookID: book,
		MaturityDate: day + 30, CreatedDate: day}
}

func partitionOf(tradeID string) int32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(tradeID))
	return int32(h.Sum32() % testPartitions)
}

// add appends a record of a new request. The book tells payloads of equal keys apart.
func (l *topicLog) add(tradeID string, version int32, book string) trade.Record {
	l.seq++
	accepted := testNow.Add(time.Duration(l.seq) * time.Microsecond)
	return l.append(trade.Record{Request: trade.Request{
		ID: trade.NewRequestID(accepted), Trade: newTrade(tradeID, version, book), AcceptedAt: accepted,
		BusinessDate: trade.DateOf(accepted), Partition: partitionOf(tradeID), CorrelationID: fmt.Sprintf("call-%d", l.seq),
	}})
}

// append appends a copy of a record, at the end of its partition.
func (l *topicLog) append(r trade.Record) trade.Record {
	r.Offset = l.next[r.Partition]
	r.Value = []byte("as it lies in the log")
	l.next[r.Partition]++
	l.pending = append(l.pending, r)
	return r
}

// batch takes what was appended since the last call. The caller must apply it, or lose it.
func (l *topicLog) batch() *trade.Batch {
	b := &trade.Batch{TopicID: l.topic, Generation: l.gen, Records: l.pending}
	l.pending = nil
	slices.SortStableFunc(b.Records, func(x, y trade.Record) int { return cmp.Compare(x.Partition, y.Partition) })
	for p := range l.next {
		if l.next[p] != l.applied[p] {
			b.Spans = append(b.Spans, trade.Span{Partition: int32(p), From: l.applied[p], Next: l.next[p], LeaderEpoch: 3})
		}
	}
	l.applied = l.next
	return b
}

// apply applies what was appended.
func (l *topicLog) apply() trade.Applied {
	l.t.Helper()
	applied, err := l.store.Apply(l.t.Context(), l.batch())
	require.NoError(l.t, err)
	return applied
}

// refused applies what was appended, wants an error of class want and checks that nothing changed.
func (l *topicLog) refused(ctx context.Context, want trade.Class) error {
	l.t.Helper()
	before := l.db.contents(l.t)
	_, err := l.store.Apply(ctx, l.batch())
	require.Error(l.t, err)
	require.Equal(l.t, want, trade.ClassOf(err), "%v", err)
	require.Equal(l.t, before, l.db.contents(l.t), "a failed apply changes nothing")
	return err
}

// contents returns every row that the apply line writes, as text.
func (d *testDatabase) contents(t testing.TB) []string {
	t.Helper()
	return d.lines(t, `
		SELECT 'trade ' || t::text AS line FROM trades t
		UNION ALL SELECT 'journal ' || s::text FROM journal s
		UNION ALL SELECT 'dead ' || x::text FROM dead_letter x
		UNION ALL SELECT 'position ' || o::text FROM ingest_offsets o ORDER BY line`)
}

// book returns the payload stored for a key.
func (d *testDatabase) book(t testing.TB, tradeID string, version int32) string {
	t.Helper()
	var book string
	require.NoError(t, d.reads.QueryRow(t.Context(),
		"SELECT book_id FROM trades WHERE trade_id = $1 AND version = $2", tradeID, version).Scan(&book))
	return book
}

// newGeneration replaces the topic by an empty one of the next generation.
func (l *topicLog) newGeneration() {
	l.gen++
	l.topic = trade.TopicID{byte(l.gen)}
	l.next, l.applied = [testPartitions]int64{}, [testPartitions]int64{}
	l.db.exec(l.t, `INSERT INTO ingest_offsets (topic_id, partition, generation, next_offset, leader_epoch, topic)
		SELECT $1, p, $2, 0, -1, $3 FROM generate_series(0, 3) AS p`, l.topic, l.gen, testTopic)
	l.db.exec(l.t, `INSERT INTO projection_cursor SELECT $1, p, 0 FROM generate_series(0, 3) AS p`, l.gen)
}
