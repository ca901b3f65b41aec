package worker

import (
	"context"
	"time"

	"tradestore/internal/failpoint"
	"tradestore/trade"
)

// project shows outcomes to clients until ctx ends: after each commit, and each interval for what a crash or an outage
// left behind. Trouble with the request store never stops the lanes (rule A7). After a failure the steps are shorter, until
// one gets through: a request store that is too slow for a whole step within the time limit would hold the cursor for ever.
// Where outcomes are visible at their commit, only the cursors have to move, once in each interval.
func (w *Worker) project(ctx context.Context) {
	limit := w.cfg.ProjectLimit
	for failures := 0; ctx.Err() == nil; {
		n, err := w.projectStep(ctx, limit)
		if err != nil && ctx.Err() == nil {
			w.metrics.projectionErrors.Inc()
			w.log.Warn().Err(err).Int("attempt", failures+1).Msg("cannot project outcomes: trying again")
			if n > 0 {
				limit = max(n/2, 1)
			}
			wait(ctx, w.pause(failures))
			failures++
			continue
		}
		if n < limit {
			w.awaitNudge(ctx)
		}
		limit = min(2*limit, w.cfg.ProjectLimit)
		failures = 0
	}
}

// settleRest is the last pass of a drain. What it does not get done the next owner of the partitions does.
func (w *Worker) projectRest(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.cfg.DrainLimit)
	defer cancel()
	for n := w.cfg.ProjectLimit; n >= w.cfg.ProjectLimit; {
		var err error
		if n, err = w.projectStep(ctx, w.cfg.ProjectLimit); err != nil {
			w.log.Warn().Err(err).Msg("cannot project the last outcomes: the next owner of the partitions does")
			return
		}
	}
}

// settleStep projects the next outcomes of the partitions held here, up to limit, and returns how many it went for; fewer
// than limit means that there are no others. A crash between its calls repeats them: projection twice changes nothing.
func (w *Worker) projectStep(ctx context.Context, limit int) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.TransactionLimit)
	defer cancel()
	partitions := w.owned()
	if len(partitions) == 0 {
		w.metrics.unprojectedSince.Store(0)
		return 0, nil
	}
	if w.deps.OutcomesAtCommit {
		return 0, w.pass(ctx, partitions)
	}
	outcomes, err := w.deps.Journal.Unprojected(ctx, partitions, limit)
	if err != nil {
		return 0, err
	}
	w.metrics.unprojectedSince.Store(oldest(outcomes))
	if n = len(outcomes); n == 0 {
		return 0, nil
	}
	failpoint.Here("beforeStatus") // a crash here leaves the outcomes unprojected in the journal
	began := time.Now()
	if err := w.deps.Requests.Project(ctx, outcomes); err != nil {
		return n, err
	}
	w.deps.Shown()
	failpoint.Here("afterSettleBeforeCursor") // a crash here leaves projected outcomes to project again
	if err := w.deps.Journal.Projected(ctx, outcomes); err != nil {
		return n, err
	}
	failpoint.Here("afterCursor") // a crash here leaves nothing to do: the cursor passed what is shown
	w.metrics.projectiond(outcomes, time.Since(began), w.deps.Now())
	w.traceProjected(outcomes, began)
	if n < limit {
		w.metrics.unprojectedSince.Store(0)
	}
	return n, nil
}

func (w *Worker) pass(ctx context.Context, partitions []int32) error {
	failpoint.Here("beforeStatus") // a crash here leaves the cursors behind what clients see; the next pass moves them
	err := w.deps.Journal.Pass(ctx, partitions)
	failpoint.Here("afterCursor") // a crash here leaves nothing to do
	return err
}

func (w *Worker) awaitNudge(ctx context.Context) {
	timer := time.NewTimer(w.cfg.ProjectInterval)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-w.nudge:
	case <-timer.C:
	}
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
