package app

import (
	"context"
	"time"

	"github.com/rs/zerolog"

	"tradestore/internal/checks"
)

// ExitDelay is how long a role stays up, not ready, before a fatal exit: two scrapes at the usual interval of 15 s, so
// that an alert can say why the role stopped.
const ExitDelay = 30 * time.Second

// logFatal logs an error that stops the role, before anything of the role is taken down (rule T9). It returns err.
func logFatal(log zerolog.Logger, err error) error {
	if checks.IsFatal(err) {
		log.Error().Err(err).Msg("stopping: what this process relies on does not hold")
	}
	return err
}

// delayExit returns err. When err is fatal it first waits for the limit or for the end of ctx, which SIGTERM brings, so
// that /metrics shows why the role stopped. The caller has ended its work and keeps serving /metrics.
func delayExit(ctx context.Context, log zerolog.Logger, limit time.Duration, err error) error {
	if limit == 0 || !checks.IsFatal(err) {
		return err
	}
	log.Warn().Stringer("for", limit).Msg("not ready; metrics stay up before the exit")
	select {
	case <-ctx.Done():
	case <-time.After(limit):
	}
	return err
}

// unlessOver returns err, or nil for one that only says that ctx ended.
func unlessOver(ctx context.Context, err error) error {
	if ctx.Err() != nil && !checks.IsFatal(err) {
		return nil
	}
	return err
}
