package worker

import (
	"context"
	"time"
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

func (w *Worker) sweepOnce(ctx context.Context) error {
	if err := w.deps.Maintainer.MakeDays(ctx, w.deps.Now()); err != nil {
		return err
	}
	swept, err := w.deps.Maintainer.Sweep(ctx, w.deps.Now(), w.cfg.retention())
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
