package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/internal/checks"
	"tradestore/kafka"
	"tradestore/trade"
)

// collect puts what was polled into one batch. Errors: errDropped for records that do not continue the position,
// errClient, or an assumption that does not hold.
func (l *lane) collect(fetches kgo.Fetches) (*trade.Batch, error) {
	var parts []kgo.FetchTopicPartition
	var first error
	fetches.EachTopic(func(t kgo.FetchTopic) {
		if len(t.Partitions) > 0 && t.TopicID != [16]byte{} && first == nil {
			first = l.topic.checkID(t.TopicID)
		}
	})
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		if err := l.fetchError(p.Topic, &p.FetchPartition); err != nil && (first == nil || checks.IsFatal(err)) {
			first = err
		}
		if len(p.Records) > 0 {
			parts = append(parts, p)
		}
	})
	batch := &trade.Batch{TopicID: l.topic.identity.TopicID, Generation: l.topic.identity.Generation}
	if first != nil {
		return batch, first
	}
	slices.SortFunc(parts, func(a, b kgo.FetchTopicPartition) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Records[0].Offset, b.Records[0].Offset))
	})
	clear(l.records) // frees the last fetches, which its values point into
	batch.Records = l.records[:0]
	for _, p := range parts {
		if err := l.addRecords(batch, &p.FetchPartition); err != nil {
			return batch, err
		}
	}
	l.records = batch.Records
	return batch, nil
}

// addRecords puts the records of one partition into the batch.
func (l *lane) addRecords(batch *trade.Batch, p *kgo.FetchPartition) error {
	from, ok := l.assigned.next(p.Partition)
	if !ok {
		return trade.Classed(trade.Broken, "records of held partitions expected, seen: records of partition %d", p.Partition)
	}
	last := len(batch.Spans) - 1
	if last < 0 || batch.Spans[last].Partition != p.Partition {
		batch.Spans = append(batch.Spans, trade.Span{Partition: p.Partition, From: from, Next: from})
		last++
	}
	span, start := &batch.Spans[last], len(batch.Records)
	for _, rec := range p.Records {
		if rec.Offset < span.Next {
			return errDropped // below the position; never skipped, because the offset could be a reused one
		}
		decoded := rec.Context.(*decodedContext)
		if decoded.err != nil {
			return decoded.err
		}
		batch.Records = append(batch.Records, decoded.record)
		span.Next, span.LeaderEpoch = rec.Offset+1, rec.LeaderEpoch
	}
	l.assigned.notePoll(p.Partition, p.HighWatermark, acceptedAt(&batch.Records[start], p.Records[0]),
		acceptedAt(&batch.Records[len(batch.Records)-1], p.Records[len(p.Records)-1]))
	return nil
}

// decoder decodes records while the client buffers them: a lane that waits for its transaction finds the next batch
// decoded. It is a hook of the client (kgo.HookFetchRecordBuffered), which may call it for several brokers at once.
type decoder struct {
	partitions int // of the topic
}

// decodedContext is the context of a record that the client has buffered. It carries the decoded record.
type decodedContext struct {
	context.Context
	record trade.Record
	err    error // of kafka.Decode; the lane stops when the record's turn comes
}

// OnFetchRecordBuffered implements kgo.HookFetchRecordBuffered.
func (d decoder) OnFetchRecordBuffered(rec *kgo.Record) {
	record, err := d.decode(rec)
	rec.Context = &decodedContext{rec.Context, record, err}
}

// decode adds to kafka.Decode the one rule that needs the topic: a record outside the partition of its trade would have
// two writers, and its order among the others would be lost (rule C5).
func (d decoder) decode(rec *kgo.Record) (trade.Record, error) {
	r, err := kafka.Decode(rec)
	if err == nil && r.Fault == "" {
		if home := kafka.Partition(r.Trade.TradeID, d.partitions); home != rec.Partition {
			r.Fault = fmt.Sprintf("the record lies in partition %d, its trade belongs to partition %d", rec.Partition, home)
		}
	}
	return r, err
}

// acceptedAt is when the request was accepted. For a record without a readable time it is when the log took it.
func acceptedAt(r *trade.Record, rec *kgo.Record) time.Time {
	if r.AcceptedAt.IsZero() {
		return rec.Timestamp
	}
	return r.AcceptedAt
}

// fetchError returns what the error of a fetch means for the lane; nil when there is nothing to do about it.
func (l *lane) fetchError(topic string, p *kgo.FetchPartition) error {
	err := p.Err
	var session *kgo.ErrGroupSession
	var cut *kgo.ErrDataLoss
	var inflated *kgo.ErrDecompressTooLarge
	switch {
	case err == nil, topic == "" && errors.Is(err, context.Canceled):
		return nil // the end of the poll itself comes without a topic
	case checks.IsFatal(err):
		return err // from startOffsets
	case errors.As(err, &session):
		l.observe.metrics.retries.WithLabelValues("group").Inc()
		l.health.set(l.name+" group", err.Error())
		l.log.Warn().Err(err).Msg("cannot stay in the consumer group: joining again")
		return nil // the client joins again by itself
	case errors.Is(err, kerr.OffsetOutOfRange), errors.As(err, &cut):
		// Perhaps only of a leader that a failover shows for a moment. If it lasts, the checks of the role stop the worker
		// (rules T5, T8). Nothing can be read meanwhile.
		next, _ := l.assigned.next(p.Partition)
		return fmt.Errorf("%w: position %d of partition %d is outside the log: %w", errClient, next, p.Partition, err)
	case errors.As(err, &inflated), errors.Is(err, kerr.UnknownTopicID):
		return trade.Classed(trade.Broken, "%w: cannot read on in partition %d of topic %s: %w",
			checks.ErrWrong, p.Partition, topic, err)
	}
	return fmt.Errorf("%w: partition %d of topic %s: %w", errClient, p.Partition, topic, err)
}
