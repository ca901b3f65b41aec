package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"tradestore/internal/telemetry"
	"tradestore/trade"
)

// apply stores a batch, in parts when it must, and moves the positions over what is stored. It returns nil when all of
// it is. Errors: errDropped when the rest is not ours to finish or the context ended; any other is a broken assumption.
// Parts that were stored before an error stay stored, and their positions with them.
func (l *lane) apply(ctx context.Context, batch *trade.Batch) error {
	l.polledAt = time.Now()
	l.metrics.polled(batch, l.deps.Now())
	todo := []*trade.Batch{batch}
	for attempt := 0; len(todo) > 0; attempt++ {
		part := todo[0]
		applied, err := l.tryApply(ctx, part)
		class := trade.ClassOf(err)
		switch {
		case err == nil: // everything of the part is durable, together
			l.done(part, applied)
			todo, attempt = todo[1:], -1
			continue
		case ctx.Err() != nil: // a rebalance or the end of a drain waits: whatever became of the part, positions tell
			return errDropped
		case class == trade.Fenced: // another worker moved a position: it goes on from there, and so do we
			l.fences++
			l.metrics.fenced.Inc()
			l.log.Warn().Err(err).Msg("fenced: dropping the batch and reading the positions again")
			return errDropped
		case class == trade.CommitUnknown: // the answer to COMMIT was lost: the positions know whether it was done
			fate, err := l.fateOf(ctx, part)
			if err != nil {
				return err
			}
			if fate == committed {
				l.done(part, trade.Applied{})
				todo, attempt = todo[1:], -1
				continue
			}
		case class == trade.BadData && len(part.Records) > 1: // one of the records is to blame: halving finds it
			l.metrics.splits.Inc()
			todo = append(halves(part), todo[1:]...)
			attempt = -1
			continue
		case class == trade.BadData: // this record is: it ends INVALID_RECORD, with a dead letter
			if err := l.refuse(&part.Records[0], err); err != nil {
				return err
			}
			attempt = -1
			continue
		case class == trade.Unavailable && errors.Is(err, context.DeadlineExceeded) && len(part.Records) > 1:
			// The store works, but not fast enough for so many records in one transaction.
			l.most = max(1, len(part.Records)/2)
			todo = append(halves(part), todo[1:]...)
		case class == trade.Unavailable, class == trade.Repeatable: // nothing was changed: the next try may do
		default:
			return fmt.Errorf("cannot apply %s: %w", describe(part), err)
		}
		l.metrics.retries.WithLabelValues(class.String()).Inc()
		if class == trade.Unavailable {
			l.health.set(l.name, "the store can't apply: "+err.Error())
		}
		l.log.Warn().Err(err).Stringer("class", class).Int("attempt", attempt+1).Msgf("cannot apply %s: trying again", describe(part))
		if !wait(ctx, l.pause(attempt)) {
			return errDropped
		}
	}
	return nil
}

// tryApply is one attempt, within the time limit of a transaction, which begins when it is the lane's turn.
func (l *lane) tryApply(ctx context.Context, part *trade.Batch) (trade.Applied, error) {
	end, err := l.gate.enter(ctx)
	if err != nil {
		return trade.Applied{}, err
	}
	defer end()
	ctx, cancel := context.WithTimeout(ctx, l.cfg.TransactionLimit)
	defer cancel()
	began := time.Now()
	applied, err := l.deps.Store.Apply(ctx, part)
	result := "ok"
	if err != nil {
		result = trade.ClassOf(err).String()
	}
	telemetry.Observe(l.metrics.applySeconds.WithLabelValues(result), time.Since(began).Seconds(), sampledOf(part.Records))
	l.traceApply(part, began, err)
	return applied, err
}

// done accounts for a part that is stored. applied is zero when an earlier attempt stored it and only the answer was lost.
func (l *lane) done(part *trade.Batch, applied trade.Applied) {
	l.assigned.advance(part.Spans)
	l.health.clear(l.name)
	l.fences = 0
	l.most = min(l.cfg.MaxPollRecords, l.most*2)
	if slices.ContainsFunc(part.Records, func(r trade.Record) bool { return r.Fault == "" }) {
		l.refused.Store(0)
	}
	l.metrics.applied(part, applied, l.deps.Now())
	l.traceDone(part)
	for i := range part.Records {
		if r := &part.Records[i]; r.Fault != "" {
			named(l.each.Warn(), r).Str("reason", r.Fault).Msg("dead letter")
		}
	}
	if l.deps.OutcomesAtCommit {
		l.deps.Shown()
	}
	signal(l.nudge)
}

// named says in a line which record it is about. A record that could not be read names no one.
func named(line *zerolog.Event, r *trade.Record) *zerolog.Event {
	line = line.Int32("partition", r.Partition).Int64("offset", r.Offset)
	if r.CorrelationID != "" {
		line = line.Str("correlation_id", r.CorrelationID)
	}
	line = line.Func(telemetry.Traced(r.TraceParent))
	if !r.ID.IsZero() {
		line = line.Stringer("request_id", r.ID)
	}
	if r.Trade.TradeID != "" {
		line = line.Str("trade_id", r.Trade.TradeID)
	}
	return line
}

// refuse marks a record that the store does not take. It gives up when that is no longer about single records: inputs
// are checked before they get here, so a series means that the schema and this build differ (rule E8).
func (l *lane) refuse(r *trade.Record, cause error) error {
	if r.Fault != "" {
		return trade.Classed(trade.Broken, "a dead letter can't be stored: partition %d, offset %d: %w", r.Partition, r.Offset, cause)
	}

	l.metrics.refused.Inc()
	if l.refused.Add(1) > int64(l.cfg.MaxRefused) {
		return trade.Classed(trade.Broken, "at most %d refused records in a row expected (--max-refused), seen: one more, at partition %d, offset %d: %w",
			l.cfg.MaxRefused, r.Partition, r.Offset, cause)
	}
	named(l.each.Warn(), r).Err(cause).Msg("the store refuses a record")
	r.Fault = "the store refuses the record"
	return nil
}

// fate is what became of a transaction whose COMMIT was not answered.
type fate int

const (
	undone fate = iota
	committed
)

// fateOf reads the positions to find out. Errors: errDropped when a position is neither before nor after the part, so
// that another worker has it, or when ctx ends first; a broken assumption.
func (l *lane) fateOf(ctx context.Context, part *trade.Batch) (fate, error) {
	positions, err := l.awaitPositions(ctx)
	if isFatal(err) {
		return undone, err
	}
	if err != nil {
		return undone, errDropped
	}
	before, after := 0, 0
	for _, s := range part.Spans {
		switch positions[s.Partition].NextOffset {
		case s.From:
			before++
		case s.Next:
			after++
		}
	}
	switch len(part.Spans) {
	case after:
		return committed, nil
	case before: // the old transaction may still end well after this look: then the next try is fenced
		return undone, nil
	}
	l.metrics.fenced.Inc()
	l.fences++
	return undone, errDropped
}

// halves cuts a batch of at least two records into two adjacent ones. Each has its own spans, so each moves the
// positions over its own records only.
func halves(b *trade.Batch) []*trade.Batch {
	at := len(b.Records) / 2
	cut := &b.Records[at]
	left := &trade.Batch{TopicID: b.TopicID, Generation: b.Generation, Records: b.Records[:at:at]}
	right := &trade.Batch{TopicID: b.TopicID, Generation: b.Generation, Records: b.Records[at:]}
	for _, s := range b.Spans {
		switch {
		case s.Partition < cut.Partition:
			left.Spans = append(left.Spans, s)
		case s.Partition > cut.Partition, b.Records[at-1].Partition != cut.Partition:
			right.Spans = append(right.Spans, s)
		default: // the cut is within the partition; a hole before it goes to the left
			left.Spans = append(left.Spans, trade.Span{Partition: s.Partition, From: s.From, Next: cut.Offset, LeaderEpoch: s.LeaderEpoch})
			right.Spans = append(right.Spans, trade.Span{Partition: s.Partition, From: cut.Offset, Next: s.Next, LeaderEpoch: s.LeaderEpoch})
		}
	}
	return []*trade.Batch{left, right}
}

// describe names a batch in error texts and log lines.
func describe(b *trade.Batch) string {
	first, last := &b.Records[0], &b.Records[len(b.Records)-1]
	return fmt.Sprintf("batch of %d records from partition %d, offset %d to partition %d, offset %d",
		len(b.Records), first.Partition, first.Offset, last.Partition, last.Offset)
}
