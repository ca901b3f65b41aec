package worker

import (
	"context"
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
}

// run projects until ctx ends: after each commit, and in each interval what a crash or an outage left behind. A request
// store that is down never stops the lanes. After a failure the steps are shorter until one succeeds: a request store
// that is too slow for a whole step within the time limit would hold the cursor for ever.
func (p *projector) run(ctx context.Context) {
	limit := p.cfg.ProjectLimit
	for failures := 0; ctx.Err() == nil; {
		n, err := p.step(ctx, limit)
		if err != nil && ctx.Err() == nil {
			p.observe.metrics.projectionErrors.Inc()
			p.log.Warn().Err(err).Int("attempt", failures+1).Msg("cannot project outcomes: trying again")
			if n > 0 {
				limit = max(n/2, 1)
			}
			wait(ctx, p.retries.pause(failures))
			failures++
			continue
		}
		if n < limit {
			waitForSignal(ctx, p.commits, p.cfg.ProjectInterval)
		}
		limit, failures = min(2*limit, p.cfg.ProjectLimit), 0
	}
}

// drain is the last pass. What it does not project, the next owner of the partitions does.
func (p *projector) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.cfg.DrainLimit)
	defer cancel()
	for n := p.cfg.ProjectLimit; n >= p.cfg.ProjectLimit; {
		var err error
		if n, err = p.step(ctx, p.cfg.ProjectLimit); err != nil {
			p.log.Warn().Err(err).Msg("cannot project the last outcomes: the next owner of the partitions does")
			return
		}
	}
}

// step projects the next outcomes of the partitions held here, up to limit, and returns how many it found; fewer than
// limit means that there are no others. After a crash between its calls they are repeated, which changes nothing (S1).
func (p *projector) step(ctx context.Context, limit int) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.TransactionLimit)
	defer cancel()
	partitions := p.assigned()
	unprojectedSince := &p.observe.metrics.unprojectedSince
	if len(partitions) == 0 {
		unprojectedSince.Store(0)
		return 0, nil
	}
	if p.atCommit {
		return 0, p.moveCursors(ctx, partitions)
	}
	outcomes, err := p.journal.Unprojected(ctx, partitions, limit)
	if err != nil {
		return 0, err
	}
	unprojectedSince.Store(oldest(outcomes))
	if n = len(outcomes); n == 0 {
		return 0, nil
	}
	failpoint.Here("beforeStatus") // a crash here leaves the outcomes unprojected in the journal
	began := time.Now()
	if err := p.requests.Project(ctx, outcomes); err != nil {
		return n, err
	}
	p.notify()
	failpoint.Here("afterProjectBeforeCursor") // a crash here leaves projected outcomes to project again
	if err := p.journal.Projected(ctx, outcomes); err != nil {
		return n, err
	}
	failpoint.Here("afterCursor") // a crash here leaves nothing to do: the cursor is behind what is projected
	p.observe.projected(outcomes, began)
	if n < limit {
		unprojectedSince.Store(0)
	}
	return n, nil
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
