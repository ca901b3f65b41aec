package app

import (
	"context"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"tradestore/internal/checks"
)

// Limits of the retries of a store that is down.
const (
	attemptLimit = 5 * time.Second
	firstPause   = 100 * time.Millisecond
	longestPause = 2 * time.Second
)

// retry calls try until it succeeds: a store that is down comes back (rule T8). It returns the last error of try when
// ctx ends, and at once when the error is fatal. Each failure is one log line.
func retry(ctx context.Context, log zerolog.Logger, what string, try func(context.Context) error) error {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		attempt, cancel := context.WithTimeout(ctx, attemptLimit)
		err := try(attempt)
		cancel()
		if err == nil || checks.IsFatal(err) {
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
