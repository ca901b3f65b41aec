package worker

import (
	"context"
	"time"

	"tradestore/failpoint"
	"tradestore/trade"
)

// settle shows outcomes to clients until ctx ends: after each commit, and each interval for what a crash or an outage
// left behind. Trouble with the request log never stops the lanes (rule A7).
func (w *Worker) settle(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; {
		more, err := w.settleStep(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			w.metrics.settleErrors.Inc()
			w.log.Warn().Err(err).Int("attempt", failures+1).Msg("cannot settle outcomes: trying again")
			wait(ctx, w.pause(failures))
			failures++
			continue
		case !more:
			w.awaitNudge(ctx)
		}
		failures = 0
	}
}

// settleRest is the last pass of a drain. What it does not get done the next owner of the partitions does.
func (w *Worker) settleRest(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.cfg.DrainLimit)
	defer cancel()
	for more := true; more; {
		var err error
		if more, err = w.settleStep(ctx); err != nil {
			w.log.Warn().Err(err).Msg("cannot settle the last outcomes: the next owner of the partitions does")
			return
		}
	}
}

// settleStep settles the next outcomes of the partitions held here; more says that there may be others. A crash between
// its calls repeats them: settling twice changes nothing.
func (w *Worker) settleStep(ctx context.Context) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.TransactionLimit)
	defer cancel()
	partitions := w.owned()
	if len(partitions) == 0 {
		w.metrics.unsettledSince.Store(0)
		return false, nil
	}
	outcomes, err := w.deps.Journal.Unsettled(ctx, partitions, w.cfg.SettleLimit)
	if err != nil {
		return false, err
	}
	w.metrics.unsettledSince.Store(oldest(outcomes))
	if len(outcomes) == 0 {
		return false, nil
	}
	failpoint.Here("beforeStatus") // a crash here leaves the outcomes unsettled in the journal
	began := time.Now()
	if err := w.deps.Requests.Settle(ctx, outcomes); err != nil {
		return false, err
	}
	failpoint.Here("afterSettleBeforeCursor") // a crash here leaves settled outcomes to settle again
	if err := w.deps.Journal.Settled(ctx, outcomes); err != nil {
		return false, err
	}
	failpoint.Here("afterCursor") // a crash here leaves nothing to do: the cursor passed what is shown
	w.metrics.settled(outcomes, time.Since(began), w.deps.Now())
	more = len(outcomes) >= w.cfg.SettleLimit
	if !more {
		w.metrics.unsettledSince.Store(0)
	}
	return more, nil
}

func (w *Worker) awaitNudge(ctx context.Context) {
	timer := time.NewTimer(w.cfg.SettleInterval)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-w.nudge:
	case <-timer.C:
	}
}

// oldest returns when the first of the outcomes was decided, in microseconds since 1970; 0 for none.
func oldest(outcomes []trade.Outcome) int64 {
	first := int64(0)
	for i := range outcomes {
		if at := outcomes[i].DecidedAt.UnixMicro(); first == 0 || at < first {
			first = at
		}
	}
	return first
}
