package worker

import (
	"context"
	"fmt"
	"time"

	"tradestore/internal/checks"
)

// sweepRetry bounds the time until the next sweep after one that failed.
const sweepRetry = time.Minute

// sweep makes the coming days of the journal and deletes what is past its retention, until ctx ends. Failures are
// counted and repeated: days are made well ahead, so there is time.
func (w *Worker) sweep(ctx context.Context) {
	for pause := w.cfg.SweepInterval; ; {
		err := w.sweepOnce(ctx)
		if err == nil {
			w.metrics.lastSweep.Set(float64(w.deps.Now().Unix()))
			pause = w.cfg.SweepInterval
		} else if ctx.Err() == nil {
			w.metrics.sweepErrors.Inc()
			w.log.Warn().Err(err).Msg("cannot sweep: trying again")
			pause = min(sweepRetry, w.cfg.SweepInterval)
		}
		if !wait(ctx, pause) {
			return
		}
	}
}

// sweepOnce makes the days by the clock of the database, which the servers were compared with when they started. It
// deletes what is old by both clocks, and nothing when one of them must be wrong (rule T11).
func (w *Worker) sweepOnce(ctx context.Context) error {
	database, err := w.deps.Maintainer.Clock(ctx)
	if err != nil {
		return err
	}
	if err := w.deps.Maintainer.MakeDays(ctx, database); err != nil {
		return err
	}
	now := w.deps.Now()
	if skew := now.Sub(database); skew.Abs() > checks.MaxSkew {
		return fmt.Errorf("nothing is deleted: the clock of this process says %s, the one of the database %s (rule T11)",
			now.UTC().Format(time.RFC3339), database.UTC().Format(time.RFC3339))
	}
	if database.Before(now) {
		now = database
	}
	swept, err := w.deps.Maintainer.Sweep(ctx, now, w.cfg.retention())
	w.metrics.swept(swept) // also after an error: what was deleted before it is deleted
	return err
}

// summarize makes summaries of what was inserted, now and then, until ctx ends. Without them a history takes longer,
// and nothing is wrong, so a failure waits for the next time.
func (w *Worker) summarize(ctx context.Context) {
	for wait(ctx, w.cfg.SummaryInterval) {
		ranges, err := w.deps.Maintainer.Summarize(ctx)
		w.metrics.summarized.Add(float64(ranges))
		if err != nil && ctx.Err() == nil {
			w.metrics.summaryErrors.Inc()
			w.log.Warn().Err(err).Msg("cannot summarize what was inserted: trying again")
		}
	}
}
