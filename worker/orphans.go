package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"tradestore/internal/telemetry"
	"tradestore/trade"
)

const (
	fewPending = 1000 // to ask for at first; more when there are more
	mostClosed = 500  // requests closed in one transaction, which holds up the partition's lane meanwhile
	notRead    = -1
)

// orphan reaper closes requests that stay PENDING because their record never reached the log: a server died before it
// produced, or the log took the record too late to be told of it. The danger is to close one that was answered 202. So it
// waits until no server can answer any more (R2), then until all that the log has by then is applied (R3), and decides
// under the lock of the lanes (R4). It never produces (R6).
//
// It knows nothing that it could not find out again: after a restart the wait begins anew. Several may work on the same
// request at once, so that partitions may change hands at any moment.
type orphanReaper struct {
	*Worker
	seen  map[trade.RequestID]*observation // requests of the last look, in partitions held here
	limit int                              // requests to ask for
	clock func() time.Duration             // since some moment, and monotonic: wall clocks jump
}

// sighting is what is known of one request.
type observation struct {
	since time.Duration // when it was first seen
	end   int64         // of its partition's log, read after the wait; notRead before
}

func newOrphanReaper(w *Worker) *orphanReaper {
	start := time.Now()
	return &orphanReaper{
		Worker: w, seen: map[trade.RequestID]*observation{}, limit: min(fewPending, w.cfg.OrphanLimit),
		clock: func() time.Duration { return time.Since(start) },
	}
}

// run looks for such requests until ctx ends (nil) or an assumption does not hold. Trouble is counted and the look
// repeated.
func (r *orphanReaper) run(ctx context.Context) error {
	for wait(ctx, r.cfg.OrphanInterval) {
		limited, cancel := context.WithTimeout(ctx, r.cfg.TransactionLimit)
		err := r.step(limited)
		cancel()
		switch {
		case ctx.Err() != nil:
		case isFatal(err):
			return err
		case err != nil:
			r.metrics.orphanErrors.Inc()
			r.log.Warn().Err(err).Msg("cannot close orphaned requests now")
		}
	}
	return nil
}

// step takes every request one step further, if it can. A crash at any line leaves requests PENDING, or decided and not
// yet shown: the next step, here or elsewhere, finds both.
func (r *orphanReaper) step(ctx context.Context) error {
	pending, err := r.deps.Requests.Pending(ctx, r.deps.Now().Add(-r.cfg.OrphanAfter), r.limit)
	if err != nil {
		return err
	}
	r.adapt(len(pending))
	held := r.owned()
	pending = slices.DeleteFunc(pending, func(p trade.PendingRequest) bool {
		_, mine := slices.BinarySearch(held, p.Partition)
		return !mine // its owner closes it
	})
	if pending, err = r.project(ctx, pending); err != nil {
		return err
	}
	ripe := r.observe(pending)
	if len(ripe) == 0 {
		return nil
	}
	if err := r.noteEnds(ctx, ripe); err != nil {
		return err
	}
	return r.close(ctx, ripe)
}

// adapt asks for more next time when there may be more. What was seen once must be in the next answer too, or its wait
// would begin anew, so fewer are asked for only when there are far fewer.
func (r *orphanReaper) adapt(found int) {
	switch {
	case found >= r.limit:
		r.limit = min(2*r.limit, r.cfg.OrphanLimit)
	case found < r.limit/4:
		r.limit = max(r.limit/2, min(fewPending, r.cfg.OrphanLimit))
	}
}

// project shows the outcomes of those that have one: a projector's or a orphan reaper's work that was lost on the way. It
// returns the others (rule R1).
func (r *orphanReaper) project(ctx context.Context, pending []trade.PendingRequest) ([]trade.PendingRequest, error) {
	if len(pending) == 0 {
		return nil, nil
	}
	outcomes, err := r.deps.Closer.Decisions(ctx, pending)
	if err != nil || len(outcomes) == 0 {
		return pending, err
	}
	if err := r.show(ctx, outcomes); err != nil {
		return nil, err
	}
	r.metrics.projected.Add(float64(len(outcomes)))
	decided := make(map[trade.RequestID]bool, len(outcomes))
	for i := range outcomes {
		decided[outcomes[i].ID] = true
	}
	return slices.DeleteFunc(pending, func(p trade.PendingRequest) bool { return decided[p.ID] }), nil
}

// sight notes which requests are PENDING and since when, forgets the others, and returns those that have waited long
// enough (rule R2).
func (r *orphanReaper) observe(pending []trade.PendingRequest) (ripe []trade.PendingRequest) {
	now := r.clock()
	seen := make(map[trade.RequestID]*observation, len(pending))
	for _, p := range pending {
		s := r.seen[p.ID]
		if s == nil {
			s = &observation{since: now, end: notRead}
		}
		seen[p.ID] = s
		if now-s.since >= r.cfg.OrphanAfter {
			ripe = append(ripe, p)
		}
	}
	r.seen = seen
	oldest := int64(0)
	if len(pending) > 0 {
		oldest = pending[0].AcceptedAt.UnixMicro()
	}
	r.metrics.pendingSince.Store(oldest)
	r.metrics.pending.WithLabelValues(forTime).Set(float64(len(pending) - len(ripe)))
	r.metrics.pending.WithLabelValues(forPosition).Set(float64(len(ripe)))
	return ripe
}

// noteEnds reads where the log of each partition ends, for the requests that do not know it yet (rule R3): a record that
// was acknowledged lies below. It is read once: a later end would only be further ahead of the position, for ever under
// load. It is the end of what is replicated, not of what a transaction has committed, which may be less.
func (r *orphanReaper) noteEnds(ctx context.Context, ripe []trade.PendingRequest) error {
	if !slices.ContainsFunc(ripe, func(p trade.PendingRequest) bool { return r.seen[p.ID].end == notRead }) {
		return nil
	}
	ends, err := kadm.NewClient(r.admin).ListEndOffsets(ctx, r.cfg.Kafka.Topic)
	if err != nil {
		return fmt.Errorf("cannot read the end offsets of topic %s: %w", r.cfg.Kafka.Topic, err)
	}
	if err := r.checkTopic(ctx); err != nil { // after the read: the ends are those of the topic that is applied
		return err
	}
	for _, p := range ripe {
		s := r.seen[p.ID]
		if end, ok := ends.Lookup(r.cfg.Kafka.Topic, p.Partition); ok && end.Err == nil && s.end == notRead {
			s.end = end.Offset
		}
	}
	return nil
}

// close decides the requests whose partition is applied up to the end that they wait for, and shows the outcomes. One
// partition's trouble does not hold up the others.
func (r *orphanReaper) close(ctx context.Context, ripe []trade.PendingRequest) error {
	positions, err := r.positions(ctx)
	if err != nil {
		return err
	}
	due := make(map[int32][]trade.PendingRequest, len(positions))
	for _, p := range ripe {
		if end := r.seen[p.ID].end; end != notRead && end <= positions[p.Partition].NextOffset {
			due[p.Partition] = append(due[p.Partition], p)
		}
	}
	var failed error
	for partition, requests := range due {
		for chunk := range slices.Chunk(requests, mostClosed) {
			if err := r.closeChunk(ctx, partition, chunk); err != nil {
				failed = errors.Join(failed, err)
				break
			}
		}
	}
	return failed
}

func (r *orphanReaper) closeChunk(ctx context.Context, partition int32, requests []trade.PendingRequest) error {
	end := int64(0)
	for _, p := range requests {
		end = max(end, r.seen[p.ID].end)
	}
	outcomes, err := r.deps.Closer.Close(ctx, r.topic.TopicID, partition, end, requests)
	if err != nil {
		return err
	}
	for i := range outcomes {
		o := &outcomes[i]
		if o.Reason != trade.NotDelivered {
			continue // the log had it after all, and the lane was faster
		}
		r.metrics.closed.Inc()
		r.metrics.outcomes.WithLabelValues(string(o.Status), string(o.Reason)).Inc()
		r.each.Warn().Str("correlation_id", o.CorrelationID).Func(telemetry.Traced(o.TraceParent)).Stringer("request_id", o.ID).Str("trade_id", o.TradeID).Int32("partition", partition).
			Time("accepted_at", o.AcceptedAt).Str("reason", string(o.Reason)).Msg("request closed: its trade never reached the log")
	}
	return r.show(ctx, outcomes)
}

// show makes outcomes visible to clients.
func (r *orphanReaper) show(ctx context.Context, outcomes []trade.Decision) error {
	began := time.Now()
	if err := r.deps.Requests.Project(ctx, outcomes); err != nil {
		return err
	}
	r.traceProjected(outcomes, began)
	return nil
}
