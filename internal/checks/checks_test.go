package checks

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

var (
	good    = Compare("T1", "topic", "there", "there", true)
	wrong   = Compare("T2", "partitions", "12", "13", false)
	skipped = Skip("T3", "replicas", "3", "1 (profile single)")
	silent  = CanNotTell("T5", "positions", "all", errors.New("no broker answers"))
)

func TestErrEvaluatesAList(t *testing.T) {
	t.Parallel()
	f := func(checks []Check, class trade.Class, want string) {
		t.Helper()
		err := Err(checks)
		if want == "" {
			require.NoError(t, err)
			return
		}
		require.EqualError(t, err, want)
		require.Equal(t, class, trade.ClassOf(err))
		require.Equal(t, class == trade.Broken, errors.Is(err, ErrWrong))
	}
	f(nil, 0, "")
	f([]Check{good, skipped}, 0, "")
	f([]Check{good, wrong}, trade.Broken, "checks failed: T2 partitions: expected 12, seen: 13")
	f([]Check{wrong, silent, wrong}, trade.Broken,
		"checks failed: T2 partitions: expected 12, seen: 13; T2 partitions: expected 12, seen: 13")
	f([]Check{silent, good}, trade.Unavailable, "cannot check T5: no broker answers")
	f([]Check{silent, silent, CanNotTell("T6", "zone", "UTC", errors.New("down"))}, trade.Unavailable,
		"cannot check T5, T6: no broker answers; down")
}

func TestMonitorCountsItsLastRound(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	round := []Check{good, wrong, silent}
	s, err := NewMonitor(reg, time.Minute,
		func(context.Context) []Check { return round },
		func(context.Context) []Check { return []Check{skipped} })
	require.NoError(t, err)
	counts := func() (all [4]float64) {
		for i, c := range []Check{good, wrong, silent, skipped} {
			all[i] = testutil.ToFloat64(s.results.WithLabelValues(c.ID, string(c.Status)))
		}
		return all
	}
	require.Equal(t, 32, testutil.CollectAndCount(s.results), "every series is there before the first round")

	require.ErrorIs(t, s.Err(t.Context()), ErrWrong)
	require.Equal(t, [4]float64{1, 1, 1, 1}, counts())
	round = []Check{good}
	require.NoError(t, s.Err(t.Context()))
	require.Equal(t, [4]float64{1, 0, 0, 1}, counts())
	require.Equal(t, []Check{good, skipped}, s.All(t.Context()), "in the order of the parts")

	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Equal(t, []promlint.Problem(nil), problems)
	_, err = NewMonitor(reg, time.Minute)
	require.ErrorContains(t, err, "cannot register")
}

// A store that does not answer delays a round up to its limit, and the other checks are made.
func TestARoundIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, err := NewMonitor(prometheus.NewRegistry(), time.Second,
			func(ctx context.Context) []Check {
				<-ctx.Done()
				return []Check{CanNotTell("T1", "topic", "there", ctx.Err())}
			},
			func(context.Context) []Check { return []Check{good} })
		require.NoError(t, err)
		checks := s.All(t.Context())
		require.Equal(t, []Status{Unknown, OK}, []Status{checks[0].Status, checks[1].Status})
		require.True(t, strings.Contains(checks[0].Seen, "deadline"))
	})
}

func TestIsFatal(t *testing.T) {
	t.Parallel()
	require.True(t, IsFatal(trade.Classed(trade.Broken, "a table is missing")))
	require.True(t, IsFatal(fmt.Errorf("cannot start: %w", ErrWrong)))
	require.False(t, IsFatal(nil))
	require.False(t, IsFatal(errors.New("connection refused")))
}
