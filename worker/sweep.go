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
