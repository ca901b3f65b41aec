package worker

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"tradestore/internal/checks"
	"tradestore/kafka"
	"tradestore/trade"
)

const (
	minPendingLimit = 1000 // requests to ask for at first; more when there are more
	closeBatchSize  = 500  // requests closed in one transaction, for which the lane of the partition has to wait
	endUnknown      = -1

	// logMargin is how much older than a request the oldest record of its partition must be, to be sure that the log has
	// lost nothing since: clocks of servers differ, and a record is under way for a while.
	logMargin = 5 * time.Minute
	// emptyLogLimit bounds the age of a request that is closed while its partition has no record. No topic may delete
	// records that are younger.
	emptyLogLimit = kafka.ReplayWindow
)

// orphanReaper closes requests that stay PENDING because their record never reached the log: a server died before it
// produced, or was not told in time that the log has the record. It must not close a request that was answered 202. So
// it waits until no server can answer any more (R2), then until all that the log has by then is applied (R3), and
// decides under the lock of the lanes (R4). It never produces (R6).
//
// What it knows, it can find out again: after a restart the wait begins anew. Several reapers may work on the same
// request at once, so partitions may change hands at any moment.
type orphanReaper struct {
	cfg          Config
	log          zerolog.Logger
	requests     RequestStore
	closer       OrphanCloser
	topic        *topicReader
	assigned     func() []int32 // the partitions held here
	observe      *observer
	now          func() time.Time
	monotonic    func() time.Duration // since some moment; wall clocks jump
	observations map[trade.RequestID]*observation
	limit        int // requests to ask for
}

// observation is what is known of a request of the last step, in a partition held here.
type observation struct {
	since time.Duration // when it was first seen
	end   int64         // of its partition, read after the wait; endUnknown before

	// unprovable means that nobody can tell any more whether its record reached the log. It stays PENDING until an
	// operator ends it.
	unprovable bool
}

func newOrphanReaper(w *Worker) *orphanReaper {
	start := time.Now()
	return &orphanReaper{
		cfg: w.cfg, log: w.log, requests: w.deps.Requests, closer: w.deps.Closer, topic: w.topic, assigned: w.assigned,
		observe: w.observe, now: w.deps.Now, monotonic: func() time.Duration { return time.Since(start) },
		observations: map[trade.RequestID]*observation{}, limit: min(minPendingLimit, w.cfg.OrphanLimit),
	}
}

// run closes orphans until ctx ends (nil) or an assumption does not hold. Other errors are counted, and the step is
// repeated.
func (r *orphanReaper) run(ctx context.Context) error {
	for wait(ctx, r.cfg.OrphanInterval) {
		limited, cancel := context.WithTimeout(ctx, r.cfg.TransactionLimit)
		err := r.step(limited)
		cancel()
		switch {
		case ctx.Err() != nil:
		case checks.IsFatal(err):
			return err
		case err != nil:
			r.observe.metrics.orphanErrors.Inc()
			r.log.Warn().Err(err).Msg("cannot close orphaned requests now")
		}
	}
	return nil
}

// step takes every request one step further, if it can. A crash at any line leaves requests PENDING, or decided and not
// yet projected: the next step, here or elsewhere, finds both.
func (r *orphanReaper) step(ctx context.Context) error {
	pending, err := r.requests.Pending(ctx, r.assigned(), r.now().Add(-r.cfg.OrphanAfter), r.limit)
	if err != nil {
		return err
	}
	r.adjustLimit(len(pending))
	decided, err := r.decided(ctx, pending)
	if err != nil {
		return err
	}
	failed := r.projectDecided(ctx, decided) // holds up none of the others
	pending = undecided(pending, decided)
	waited := r.record(pending)
	defer func() { r.observe.metrics.orphans(r.byWait(pending)) }()
	if len(waited) == 0 {
		return failed
	}
	if err := r.readEnds(ctx, waited); err != nil {
		return errors.Join(failed, err)
	}
	return errors.Join(failed, r.closeApplied(ctx, waited))
}

// byWait divides the requests that are PENDING by what they wait for.
func (r *orphanReaper) byWait(pending []trade.PendingRequest) map[string][]trade.PendingRequest {
	divided := make(map[string][]trade.PendingRequest)
	for _, p := range pending {
		waits, o := forTime, r.observations[p.ID]
		switch {
		case o.unprovable:
			waits = forOperator
		case r.monotonic()-o.since >= r.cfg.OrphanAfter:
			waits = forPosition
		}
		divided[waits] = append(divided[waits], p)
	}
	return divided
}

// adjustLimit asks for more next time when there may be more. What was seen once must be in the next answer too, or its
// wait would begin anew, so fewer are asked for only when there are far fewer.
func (r *orphanReaper) adjustLimit(found int) {
	switch {
	case found >= r.limit:
		r.limit = min(2*r.limit, r.cfg.OrphanLimit)
	case found < r.limit/4:
		r.limit = max(r.limit/2, min(minPendingLimit, r.cfg.OrphanLimit))
	}
}

// decided returns the outcomes of those that have one (rule R1).
func (r *orphanReaper) decided(ctx context.Context, pending []trade.PendingRequest) ([]trade.Decision, error) {
	if len(pending) == 0 {
		return nil, nil
	}
	return r.closer.Decisions(ctx, pending)
}

// undecided returns the requests that none of the outcomes is about.
func undecided(pending []trade.PendingRequest, outcomes []trade.Decision) []trade.PendingRequest {
	decided := requestsOf(outcomes)
	return slices.DeleteFunc(pending, func(p trade.PendingRequest) bool { return decided[p.ID] })
}

// projectDecided projects outcomes that are not shown: their projection by the projector or by an orphan reaper was
// lost, or the request store refused them.
func (r *orphanReaper) projectDecided(ctx context.Context, outcomes []trade.Decision) error {
	var err error
	if len(outcomes) > 0 {
		err = r.project(ctx, outcomes)
	}
	not := notProjected(err, outcomes)
	unshown := len(not.Left) + len(not.Refused)
	r.observe.metrics.unshown.Set(float64(unshown))
	r.observe.metrics.orphansProjected.Add(float64(len(outcomes) - unshown))
	return err
}

// record notes which requests are PENDING and since when, forgets the others, and returns those that have waited long
// enough (rule R2).
func (r *orphanReaper) record(pending []trade.PendingRequest) (waited []trade.PendingRequest) {
	now := r.monotonic()
	observations := make(map[trade.RequestID]*observation, len(pending))
	for _, p := range pending {
		o := r.observations[p.ID]
		if o == nil {
			o = &observation{since: now, end: endUnknown}
		}
		observations[p.ID] = o
		if now-o.since >= r.cfg.OrphanAfter && !o.unprovable {
			waited = append(waited, p)
		}
	}
	r.observations = observations
	return waited
}

// readEnds reads where the partitions end, for the requests that do not know it yet (rule R3): a record that was
// acknowledged lies below. It is read once: a later end would be further ahead of the position, for ever under load.
// The current leader must say it, and say that the log still has all that came since the request was accepted.
func (r *orphanReaper) readEnds(ctx context.Context, waited []trade.PendingRequest) error {
	unknown := func(p trade.PendingRequest) bool { return r.observations[p.ID].end == endUnknown }
	if !slices.ContainsFunc(waited, unknown) {
		return nil
	}
	positions, err := r.topic.positions(ctx)
	if err != nil {
		return err
	}
	epochs := make(map[int32]int32)
	for _, p := range waited {
		if unknown(p) {
			epochs[p.Partition] = positions[p.Partition].LeaderEpoch
		}
	}
	ranges, err := kafka.ReadRanges(ctx, r.topic.admin, r.topic.name, epochs)
	if err != nil {
		return err
	}
	if err := r.topic.check(ctx); err != nil { // after the read: the ends are those of the topic that is applied
		return err
	}
	for _, p := range waited {
		logged, ok := ranges[p.Partition]
		if o := r.observations[p.ID]; ok && unknown(p) {
			o.end, o.unprovable = logged.End, !r.isComplete(logged, p.AcceptedAt)
		}
	}
	return nil
}

// isComplete says whether the log has lost nothing since an instant.
func (r *orphanReaper) isComplete(logged kafka.LogRange, since time.Time) bool {
	switch {
	case logged.Start == 0:
		return true
	case logged.Oldest.IsZero():
		return r.now().Sub(since) < emptyLogLimit
	}
	return logged.Oldest.Before(since.Add(-logMargin))
}

// closeApplied closes the requests whose partition is applied up to the end that they wait for. A failure in one
// partition does not hold up the others.
func (r *orphanReaper) closeApplied(ctx context.Context, waited []trade.PendingRequest) error {
	positions, err := r.topic.positions(ctx)
	if err != nil {
		return err
	}
	due := make(map[int32][]trade.PendingRequest, len(positions))
	for _, p := range waited {
		o := r.observations[p.ID]
		if end := o.end; !o.unprovable && end != endUnknown && end <= positions[p.Partition].NextOffset {
			due[p.Partition] = append(due[p.Partition], p)
		}
	}
	var failed error
	for partition, requests := range due {
		for batch := range slices.Chunk(requests, closeBatchSize) {
			if err := r.closeBatch(ctx, partition, batch); err != nil {
				failed = errors.Join(failed, err)
				break
			}
		}
	}
	return failed
}

// closeBatch decides requests of one partition in one transaction, and projects their outcomes (rule R4).
func (r *orphanReaper) closeBatch(ctx context.Context, partition int32, requests []trade.PendingRequest) error {
	end := int64(0)
	for _, p := range requests {
		end = max(end, r.observations[p.ID].end)
	}
	outcomes, err := r.closer.Close(ctx, r.topic.identity.TopicID, partition, end, requests)
	if err != nil {
		return err
	}
	r.observe.closed(outcomes, partition)
	ended := requestsOf(outcomes)
	for _, p := range requests {
		r.observations[p.ID].unprovable = !ended[p.ID]
	}
	return r.project(ctx, outcomes)
}

// project makes outcomes visible to clients.
func (r *orphanReaper) project(ctx context.Context, outcomes []trade.Decision) error {
	began := time.Now()
	err := r.requests.Project(ctx, outcomes)
	not := notProjected(err, outcomes)
	r.observe.traceProjected(without(without(outcomes, not.Left), not.Refused), began)
	return err
}
