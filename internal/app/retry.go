package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"tradestore/internal/checks"
	"tradestore/trade"
)

// How a dependency that is down is asked again.
const (
	attemptLimit = 5 * time.Second
	firstPause   = 100 * time.Millisecond
	longestPause = 2 * time.Second
)

// retry calls try until it succeeds: a store that is down comes back (rule T8). It gives up with try's last error when
// ctx ends, and at once when waiting can't mend what is wrong. Each failure is one log line.
func retry(ctx context.Context, log zerolog.Logger, what string, try func(context.Context) error) error {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		attempt, cancel := context.WithTimeout(ctx, attemptLimit)
		err := try(attempt)
		cancel()
		if err == nil || lastError(err) {
			return err
		}
		if ctx.Err() == nil {
			log.Warn().Err(err).Stringer("again_in", pause).Msgf("waiting for %s", what)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("gave up waiting for %s: %w", what, err)
		case <-time.After(pause):
		}
	}
}

// lastError says whether err is a wrong answer rather than none: the topology or the schema is not what this build was set
// up for, and going on would hide loss (rule T9).
func lastError(err error) bool {
	return trade.ClassOf(err) == trade.Broken || errors.Is(err, checks.ErrWrong)
}
