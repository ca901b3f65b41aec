package app

import (
	"context"
	"time"

	"github.com/rs/zerolog"
)

// told writes the one line that says what does not hold, before anything of the role is taken down (rule T9).
func told(log zerolog.Logger, err error) error {
	if lastError(err) {
		log.Error().Err(err).Msg("stopping: what this process relies on does not hold")
	}
	return err
}

// linger holds back an error that has stopped the work of a role for good, until the limit or the end of ctx, so that a
// scrape of the metrics sees why. Any other error it gives back at once.
func delayExit(ctx context.Context, log zerolog.Logger, limit time.Duration, err error) error {
	if limit == 0 || !lastError(err) {
		return err
	}
	log.Warn().Stringer("for", limit).Msg("not ready; metrics stay up before the exit")
	select {
	case <-ctx.Done():
	case <-time.After(limit):
	}
	return err
}
