package app

import (
	"context"
	"time"

	"github.com/rs/zerolog"

	"tradestore/internal/telemetry"
)

// flushLimit bounds the wait for the exporter of traces when a role ends.
const flushLimit = 5 * time.Second

// startTracing starts the traces of a role. stop exports the last spans, within the drain limit that counts from the
// end of ctx. Spans that are lost then are a line in the log and no failure.
func startTracing(
	ctx context.Context, service string, drain time.Duration, log zerolog.Logger,
) (t *telemetry.Tracer, stop func(), err error) {
	if t, err = telemetry.NewTracer(service, log); err != nil || t == nil {
		return nil, func() {}, err
	}
	ending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	keep := context.AfterFunc(ctx, func() { time.AfterFunc(drain, cancel) })
	return t, func() {
		defer cancel()
		defer keep()
		limit, done := context.WithTimeout(ending, flushLimit)
		defer done()
		if err := t.Close(limit); err != nil {
			log.Warn().Err(err).Msg("spans are lost")
		}
	}, nil
}
