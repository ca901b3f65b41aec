package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"tradestore/internal/checks"
	"tradestore/trade"
)

// action is what a lane does after an attempt to store a part of a batch.
type action uint8

const (
	actionDone    action = iota // the part is stored
	actionDrop                  // another worker moved a position: drop the batch, read the positions again
	actionSplit                 // the store refuses one of the records: halve the part to find it
	actionRefuse                // the store refuses this record: make it a dead letter
	actionRetry                 // nothing was changed: repeat after a pause
	actionShrink                // too many records for one transaction: halve the part, then as actionRetry
	actionInspect               // the answer to COMMIT was lost: the positions tell what became of it
	actionStop                  // an assumption does not hold: stop the worker
)

// actionFor decides what to do after an attempt to store a part. It depends on the class of the error, on whether the
// time limit was reached, and on the size of the part, and on nothing else (rules E2 to E6).
func actionFor(err error, part *trade.Batch) action {
	if err == nil {
		return actionDone
	}
	many := len(part.Records) > 1
	switch class := trade.ClassOf(err); {
	case class == trade.Fenced:
		return actionDrop
	case class == trade.BadData && many:
		return actionSplit
	case class == trade.BadData:
		return actionRefuse
	case class == trade.CommitUnknown:
		return actionInspect
	case class == trade.Unavailable && many && errors.Is(err, context.DeadlineExceeded):
		return actionShrink
	case class == trade.Unavailable, class == trade.Repeatable:
		return actionRetry
	}
	return actionStop
}

// actionAfterCommit decides what to do about a part whose COMMIT got no answer, by the positions of all partitions. The
// transaction may still end after they were read: then the repeat is fenced.
func actionAfterCommit(part *trade.Batch, positions []trade.Position) action {
	at := func(offset func(trade.Span) int64) bool {
		return !slices.ContainsFunc(part.Spans, func(s trade.Span) bool {
			return positions[s.Partition].NextOffset != offset(s)
		})
	}
	switch {
	case at(func(s trade.Span) int64 { return s.Next }):
		return actionDone
	case at(func(s trade.Span) int64 { return s.From }):
		return actionRetry
	}
	return actionDrop
}

// apply stores a batch, in parts when it must, and moves the positions over what is stored. It returns nil when all of
// it is stored. Errors: errDropped when the rest is not ours to finish or ctx ended; any other means that an assumption
// does not hold. Parts that were stored before an error stay stored, and their positions with them.
func (l *lane) apply(ctx context.Context, batch *trade.Batch) error {
	l.polledAt = time.Now()
	l.observe.polled(batch)
	failures := 0 // in a row
	for parts := []*trade.Batch{batch}; len(parts) > 0; {
		part := parts[0]
		applied, err := l.transact(ctx, part)
		if err != nil && ctx.Err() != nil { // a rebalance or the end of a drain waits; the positions tell what was stored
			return errDropped
		}
		next := actionFor(err, part)
		if next == actionInspect {
			positions, err := l.awaitPositions(ctx)
			if checks.IsFatal(err) {
				return err
			}
			if err != nil {
				return errDropped
			}
			next = actionAfterCommit(part, positions)
		}
		l.observe.attempted(part, next, err, failures)
		switch next {
		case actionDone:
			l.finish(part, applied)
			parts, failures = parts[1:], 0
		case actionDrop:
			l.fences++
			return errDropped
		case actionSplit:
			parts, failures = append(halves(part), parts[1:]...), 0
		case actionRefuse:
			if err := l.refuse(&part.Records[0], err); err != nil {
				return err
			}
			failures = 0
		case actionShrink, actionRetry:
			if next == actionShrink {
				l.pollLimit = max(1, len(part.Records)/2)
				parts = append(halves(part), parts[1:]...)
			}
			if trade.ClassOf(err) == trade.Unavailable {
				l.health.set(l.name, "the store can't apply: "+err.Error())
			}
			if !wait(ctx, l.retries.pause(failures)) {
				return errDropped
			}
			failures++
		default:
			return fmt.Errorf("cannot apply %s: %w", describe(part), err)
		}
	}
	return nil
}

// transact is one attempt to store a part. Its time limit begins when the gate lets it in.
func (l *lane) transact(ctx context.Context, part *trade.Batch) (trade.Applied, error) {
	leave, err := l.gate.enter(ctx)
	if err != nil {
		return trade.Applied{}, err
	}
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, l.cfg.TransactionLimit)
	defer cancel()
	began := time.Now()
	applied, err := l.store.Apply(ctx, part)
	l.observe.transacted(part, began, err)
	return applied, err
}

// finish moves the positions over a part that is stored. applied is zero when the attempt that stored it got no answer.
func (l *lane) finish(part *trade.Batch, applied trade.Applied) {
	l.assigned.advance(part.Spans)
	l.health.clear(l.name)
	l.fences = 0
	l.pollLimit = min(l.cfg.MaxPollRecords, l.pollLimit*2)
	if slices.ContainsFunc(part.Records, func(r trade.Record) bool { return r.Fault == "" }) {
		l.refusedInRow.Store(0)
	}
	l.observe.stored(part, applied, l.polledAt)
	l.onCommit()
}

// refuse marks a record that the store does not take: it becomes a dead letter. Records are checked before they get
// here, so a series of refusals means that the schema does not fit this build, and stops the worker (rule E8).
func (l *lane) refuse(r *trade.Record, cause error) error {
	if r.Fault != "" {
		return trade.Classed(trade.Broken, "a dead letter can't be stored: partition %d, offset %d: %w",
			r.Partition, r.Offset, cause)
	}
	l.observe.refused(r, cause)
	if limit := l.cfg.MaxRefused; l.refusedInRow.Add(1) > int64(limit) {
		return trade.Classed(trade.Broken,
			"the store refuses too many records (the limit is %d in a row), the last one at partition %d, offset %d: %w",
			limit, r.Partition, r.Offset, cause)
	}
	r.Fault = "the store refuses the record"
	return nil
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
		default: // the cut is within the partition; a hole before it belongs to the left half
			before, after := s, s
			before.Next, after.From = cut.Offset, cut.Offset
			left.Spans = append(left.Spans, before)
			right.Spans = append(right.Spans, after)
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
