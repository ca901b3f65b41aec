package worker

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"tradestore/internal/failpoint"
	"tradestore/trade"
)

// projector copies outcomes from the journal to the request store (rule A7). Where clients read the journal itself, it
// only moves the cursors.
type projector struct {
	cfg      Config
	log      zerolog.Logger
	journal  Journal
	requests RequestStore
	atCommit bool           // clients read outcomes from the journal
	notify   func()         // called after clients can read new outcomes
	assigned func() []int32 // the partitions held here
	commits  chan struct{}  // signalled after each commit of a lane
	retries  *retrier
	observe  *observer
	limit    int                 // outcomes of the next step
	held     map[int32]*holdBack // partitions that are kept back: the request store did not take one of their outcomes
}

// run projects until ctx ends: after each commit, and in each interval what a crash or an outage left behind. A request
// store that is down never stops the lanes.
func (p *projector) run(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; {
		more, err := p.step(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			p.observe.metrics.projectionErrors.Inc()
			p.log.Warn().Err(err).Int("attempt", failures+1).Msg("cannot project outcomes: trying again")
			wait(ctx, p.retries.pause(failures))
			failures++
			continue
		case !more:
			waitForSignal(ctx, p.commits, p.cfg.ProjectInterval)
		}
		failures = 0
	}
}

// drain is the last pass. What it does not project, the next owner of the partitions does.
func (p *projector) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.cfg.DrainLimit)
	defer cancel()
	clear(p.held)
	for more := true; more; {
		var err error
		if more, err = p.step(ctx); err != nil {
			p.log.Warn().Err(err).Msg("cannot project the last outcomes: the next owner of the partitions does")
			return
		}
	}
}

// step projects the next outcomes of the partitions held here, up to limit, and says whether there may be more. What
// the request store did not take keeps back its own partition only. After a crash between the calls they are repeated,
// which changes nothing (S1). Errors: the journal can't be read or written.
func (p *projector) step(ctx context.Context) (more bool, err error) {
	partitions := p.due()
	if len(partitions) == 0 {
		p.noteOldest(nil)
		return false, nil
	}
	if p.atCommit {
		return false, p.limited(ctx, func(ctx context.Context) error { return p.moveCursors(ctx, partitions) })
	}
	var outcomes []trade.Decision
	if err := p.limited(ctx, func(ctx context.Context) (err error) {
		outcomes, err = p.journal.Unprojected(ctx, partitions, p.limit)
		return err
	}); err != nil {
		return false, err
	}
	p.noteOldest(outcomes)
	if len(outcomes) == 0 {
		return false, nil
	}
	failpoint.Here("beforeStatus") // a crash here leaves the outcomes unprojected in the journal
	began := time.Now()
	not := p.project(ctx, outcomes)
	passed, rest := upToFirst(outcomes, not.Left)
	if len(passed) > 0 {
		p.notify()
		failpoint.Here("afterProjectBeforeCursor") // a crash here leaves projected outcomes to project again
		if err := p.limited(ctx, func(ctx context.Context) error { return p.journal.Projected(ctx, passed) }); err != nil {
			return false, err
		}
		failpoint.Here("afterCursor") // a crash here leaves nothing to do: the cursor is behind what is projected
		p.observe.projected(passed, not, began)
	}
	p.hold(passed, rest, not.Err)
	if more = len(outcomes) == p.limit; !more {
		p.noteOldest(nil)
	}
	p.resize(len(outcomes), len(rest))
	return more, nil
}

// resize makes the next step half as large if the request store did not take all of this one, else twice as large. One
// that is too slow for a call may take a smaller one, and what it gets after the time limit of a call makes it slower.
func (p *projector) resize(found, left int) {
	if left > 0 {
		p.limit = max(found/2, 1)
	} else {
		p.limit = min(2*p.limit, p.cfg.ProjectLimit)
	}
}

// project sends outcomes to the request store and returns which of them it did not take.
func (p *projector) project(ctx context.Context, outcomes []trade.Decision) *trade.NotProjected {
	err := p.limited(ctx, func(ctx context.Context) error { return p.requests.Project(ctx, interleave(outcomes)) })
	return notProjected(err, outcomes)
}

// due returns the partitions held here, without those that are kept back for now.
func (p *projector) due() []int32 {
	assigned := p.assigned()
	maps.DeleteFunc(p.held, func(partition int32, _ *holdBack) bool {
		_, mine := slices.BinarySearch(assigned, partition)
		return !mine
	})
	return slices.DeleteFunc(assigned, func(partition int32) bool {
		h := p.held[partition]
		return h != nil && time.Now().Before(h.until)
	})
}

// holdBack says how long a partition is kept back.
type holdBack struct {
	failures int // in a row
	until    time.Time
	oldest   int64 // of its outcomes that are not projected
}

// hold keeps back the partitions of outcomes that the cursors could not pass, the longer the more often nothing of them
// was passed, and frees the others.
func (p *projector) hold(passed, rest []trade.Decision, cause error) {
	failed := map[int32]int{} // how often before
	left := map[int32][]trade.Decision{}
	for _, o := range rest {
		left[o.Partition] = append(left[o.Partition], o)
		if h := p.held[o.Partition]; h != nil {
			failed[o.Partition] = h.failures
		}
	}
	for _, o := range passed {
		delete(p.held, o.Partition)
		delete(failed, o.Partition)
	}
	for partition, outcomes := range left {
		failures := failed[partition]
		pause := p.retries.pause(failures)
		p.held[partition] = &holdBack{failures + 1, time.Now().Add(pause), oldest(outcomes)}
		p.observe.metrics.projectionErrors.Inc()
		p.log.Warn().Err(cause).Int32("partition", partition).Int64("offset", outcomes[0].Offset).
			Int("attempt", failures+1).Msg("cannot project outcomes of a partition: trying again")
	}
}

// noteOldest notes since when clients wait for one of the outcomes, or for one of a partition that is kept back.
func (p *projector) noteOldest(outcomes []trade.Decision) {
	since := oldest(outcomes)
	for _, h := range p.held {
		if since == 0 || h.oldest < since {
			since = h.oldest
		}
	}
	p.observe.metrics.unprojectedSince.Store(since)
}

// limited gives a call its time limit. Each call has its own: when the request store is too slow, the cursors still
// move over what it took.
func (p *projector) limited(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.TransactionLimit)
	defer cancel()
	return call(ctx)
}

// moveCursors moves the cursors to the positions.
func (p *projector) moveCursors(ctx context.Context, partitions []int32) error {
	failpoint.Here("beforeStatus") // a crash here leaves the cursors before what clients see; the next pass moves them
	err := p.journal.Pass(ctx, partitions)
	failpoint.Here("afterCursor") // a crash here leaves nothing to do
	return err
}

// oldest returns when the first of the outcomes was decided, in microseconds since 1970; 0 for none.
func oldest(outcomes []trade.Decision) int64 {
	first := int64(0)
	for i := range outcomes {
		if at := outcomes[i].DecidedAt.UnixMicro(); first == 0 || at < first {
			first = at
		}
	}
	return first
}
