package app

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"tradestore/internal/checks"
)

// The gate opens when the checks pass, and shuts for good when one fails. A check that can't be made changes nothing.
func TestTheGateFollowsTheChecks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		result := checks.CanNotTell("T1", "topic", "exists", errors.New("down"))
		part := func(context.Context) []checks.Check { return []checks.Check{result} }
		monitor, err := checks.NewMonitor(prometheus.NewRegistry(), time.Second, part)
		require.NoError(t, err)
		g, kept := &gate{}, make(chan error, 1)
		go func() { kept <- g.keep(t.Context(), zerolog.Nop(), time.Second, monitor) }()
		next := func(c checks.Check) {
			result = c
			time.Sleep(longestPause)
			synctest.Wait()
		}
		next(result)
		require.ErrorIs(t, g.err(), errUnverified)
		next(checks.Compare("T1", "topic", "exists", "exists", true))
		require.NoError(t, g.err())
		next(checks.CanNotTell("T1", "topic", "exists", errors.New("down")))
		require.NoError(t, g.err())
		next(checks.Compare("T1", "topic", "exists", "is absent", false))
		require.ErrorIs(t, <-kept, checks.ErrWrong)
		require.ErrorIs(t, g.err(), errUnverified)
	})
}
