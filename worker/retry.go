package worker

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/rs/zerolog"

	"tradestore/internal/checks"
)

// retrier repeats what failed, with random pauses that grow.
type retrier struct {
	min, max time.Duration // upper bounds of the first and of the longest pause
	health   *health
	log      zerolog.Logger
}

// pause returns a random time to wait before the repeat after the given number of failures: full jitter under a bound
// that doubles, so that workers that failed together do not come back together.
func (r *retrier) pause(failures int) time.Duration {
	bound := r.max
	if failures < 16 {
		bound = min(bound, r.min<<failures)
	}
	return rand.N(bound) + 1
}

// do repeats try until it succeeds. The worker is not ready meanwhile, for the reason of the last failure. Errors: the
// end of ctx, or an error that waiting does not mend.
func (r *retrier) do(ctx context.Context, what string, try func(context.Context) error) error {
	defer r.health.clear(what)
	for failures := 0; ; failures++ {
		err := try(ctx)
		if err == nil || checks.IsFatal(err) {
			return err
		}
		if ctx.Err() == nil {
			r.health.set(what, "cannot "+what+": "+err.Error())
			r.log.Warn().Err(err).Int("attempt", failures+1).Msg("cannot " + what + ": trying again")
			wait(ctx, r.pause(failures))
		}
		if ctx.Err() != nil {
			return fmt.Errorf("cannot %s: %w", what, ctx.Err())
		}
	}
}

// unlessDone returns err, or nil when it came from the end of ctx: a drain is not a fault.
func unlessDone(ctx context.Context, err error) error {
	if ctx.Err() != nil && !checks.IsFatal(err) {
		return nil
	}
	return err
}

// wait returns true after d, or false as soon as ctx ends.
func wait(ctx context.Context, d time.Duration) bool { return waitForSignal(ctx, nil, d) }

// waitForSignal returns true when c is signalled, at the latest after d, or false as soon as ctx ends.
func waitForSignal(ctx context.Context, c <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-c:
	case <-timer.C:
	}
	return true
}

// signal wakes the reader of a channel of length one. A signal that is there already is enough.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
