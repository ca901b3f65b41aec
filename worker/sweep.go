package worker

import (
	"context"
	"time"

	"github.com/rs/zerolog"

	"tradestore/trade"
)

// sweeper makes the coming days of the journal and deletes what is past its retention.
type sweeper struct {
	maintainer Maintainer
	interval   time.Duration
	retention  trade.Retention
	now        func() time.Time
	metrics    *metrics
	log        zerolog.Logger
}

// sweepRetry bounds the time until the next sweep after one that failed.
const sweepRetry = time.Minute

// run sweeps until ctx ends. Failures are counted and repeated: days are made well ahead, so there is time.
func (s *sweeper) run(ctx context.Context) {
	for pause := s.interval; ; {
		err := s.sweep(ctx)
		if err == nil {
			s.metrics.lastSweep.Set(float64(s.now().Unix()))
			pause = s.interval
		} else if ctx.Err() == nil {
			s.metrics.sweepErrors.Inc()
			s.log.Warn().Err(err).Msg("cannot sweep: trying again")
			pause = min(sweepRetry, s.interval)
		}
		if !wait(ctx, pause) {
			return
		}
	}
}

func (s *sweeper) sweep(ctx context.Context) error {
	if err := s.maintainer.MakeDays(ctx, s.now()); err != nil {
		return err
	}
	swept, err := s.maintainer.Sweep(ctx, s.now(), s.retention)
	s.metrics.swept(swept) // also after an error: what was deleted before it is deleted
	return err
}
