package app

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"tradestore/internal/checks"
)

// The gate opens when the checks pass, and shuts when one fails. A check that can't be made changes nothing.
func TestTheGateFollowsTheChecks(t *testing.T) {
	t.Parallel()
	var result atomic.Pointer[checks.Check]
	var rounds atomic.Int64
	cfg := checks.Config{Registry: prometheus.NewRegistry(), Limit: patience}
	monitor, err := checks.NewMonitor(cfg, func(context.Context) []checks.Check {
		defer rounds.Add(1)
		return []checks.Check{*result.Load()}
	})
	require.NoError(t, err)
	g, kept := &gate{}, make(chan error, 1)
	next := func(c checks.Check) {
		result.Store(&c)
		seen := rounds.Load()
		require.Eventually(t, func() bool { return rounds.Load() >= seen+2 || len(kept) > 0 }, patience, time.Millisecond)
	}
	unknown := checks.CanNotTell("T1", "topic", "exists", errors.New("down"))
	result.Store(&unknown)
	go func() { kept <- g.keep(t.Context(), zerolog.Nop(), time.Millisecond, monitor) }()
	next(unknown)
	require.ErrorIs(t, g.err(), errUnverified)
	next(checks.Compare("T1", "topic", "exists", "exists", true))
	require.NoError(t, g.err())
	next(unknown)
	require.NoError(t, g.err())
	next(checks.Compare("T1", "topic", "exists", "is absent", false))
	require.ErrorIs(t, <-kept, checks.ErrWrong)
	require.ErrorIs(t, g.err(), errUnverified)
}
