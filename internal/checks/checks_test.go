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
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	_ "tradestore/test/cleanenv"
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
	s, err := NewMonitor(Config{Registry: reg, Limit: time.Minute},
		func(context.Context) []Check { return round },
		func(context.Context) []Check { return []Check{skipped} })
	require.NoError(t, err)
	counts := func() (all [4]float64) {
		for i, c := range []Check{good, wrong, silent, skipped} {
			all[i] = testutil.ToFloat64(s.results.WithLabelValues(c.ID, string(c.Status)))
		}
		return all
	}
	require.Equal(t, 54, testutil.CollectAndCount(s.results), "every series is there before the first round")

	require.ErrorIs(t, s.Err(t.Context()), ErrWrong)
	require.Equal(t, [4]float64{1, 1, 1, 1}, counts())
	round = []Check{good}
	require.NoError(t, s.Err(t.Context()))
	require.Equal(t, [4]float64{1, 0, 0, 1}, counts())
	require.Equal(t, []Check{good, skipped}, s.All(t.Context()), "in the order of the parts")

	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Equal(t, []promlint.Problem(nil), problems)
	_, err = NewMonitor(Config{Registry: reg, Limit: time.Minute})
	require.ErrorContains(t, err, "cannot register")
}

// A store that does not answer delays a round up to its limit, and the other checks are made.
func TestARoundIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, err := NewMonitor(Config{Registry: prometheus.NewRegistry(), Limit: time.Second},
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

// A check that a failover can show for a moment counts when it has failed several times over two minutes (rule T8).
func TestATransientFailureHasToBeConfirmed(t *testing.T) {
	t.Parallel()
	const interval = 30 * time.Second
	standby := Compare("T6", "takes writes", "yes", "no: a replica", false).Transient()
	writer := Compare("T6", "takes writes", "yes", "yes", true).Transient()
	down := CanNotTell("T6", "takes writes", "yes", errors.New("down"))
	f := func(want string, round ...Check) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			var next Check
			m, err := NewMonitor(
				Config{Registry: prometheus.NewRegistry(), Limit: time.Second, ConfirmFor: ConfirmFor},
				func(context.Context) []Check { return []Check{next} })
			require.NoError(t, err)
			var seen []string
			for _, next = range round {
				err := m.Err(t.Context())
				require.Equal(t, next.Status == OK, err == nil)
				status := m.statusOf("T6")
				require.Equal(t, status == Failed, IsFatal(err))
				seen = append(seen, string(status))
				time.Sleep(interval)
			}
			require.Equal(t, want, strings.Join(seen, " "))
		})
	}
	f("ok unconfirmed unconfirmed ok ok", writer, standby, standby, writer, writer)
	f("unconfirmed unconfirmed unconfirmed unconfirmed failed failed",
		standby, standby, standby, standby, standby, standby)
	f("unconfirmed unconfirmed unconfirmed ok unconfirmed unconfirmed", // it begins anew
		standby, standby, standby, writer, standby, standby)
	f("unconfirmed unknown unknown unknown unknown unconfirmed failed", // several looks, not only time
		standby, down, down, down, down, standby, standby)
	f("failed", wrong6)
}

var wrong6 = Compare("T6", "TimeZone", "UTC", "Europe/Oslo", false)

// statusOf returns the status of the only check of a rule in the last round.
func (m *Monitor) statusOf(rule string) (found Status) {
	for _, status := range statuses {
		if testutil.ToFloat64(m.results.WithLabelValues(rule, string(status))) == 1 {
			found = status
		}
	}
	return found
}

// Who looks once confirms nothing.
func TestOneLookTakesAFailureForTrue(t *testing.T) {
	t.Parallel()
	m, err := NewMonitor(Config{Registry: prometheus.NewRegistry(), Limit: time.Second},
		func(context.Context) []Check { return []Check{wrong6.Transient()} })
	require.NoError(t, err)
	require.ErrorIs(t, m.Err(t.Context()), ErrWrong)
}

func TestErrNamesWhatIsNotConfirmed(t *testing.T) {
	t.Parallel()
	standby := Compare("T6", "takes writes", "yes", "no: a replica", false)
	standby.Status = Unconfirmed
	warning := Warn("T6", "synchronous_standby_names", "a standby", "none", false)
	require.EqualError(t, Err([]Check{standby, silent, warning}),
		"not confirmed: T6 takes writes: expected yes, seen: no: a replica; cannot check T5: no broker answers")
	require.NoError(t, Err([]Check{good, warning}))
}

// Warnings are logged when they change, not in every round.
func TestWarningsAreLoggedOnce(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	warning, round := Warn("T11", "clock", "within 5s", "far", false), []Check{good}
	m, err := NewMonitor(Config{Registry: prometheus.NewRegistry(), Limit: time.Second, Log: zerolog.New(&log)},
		func(context.Context) []Check { return round })
	require.NoError(t, err)
	f := func(lines int, checks ...Check) {
		t.Helper()
		round = checks
		require.NoError(t, m.Err(t.Context()))
		require.Equal(t, lines, strings.Count(log.String(), "\n"), log.String())
	}
	f(0, good)
	f(1, good, warning)
	f(1, good, warning)
	f(1, good)
	f(2, warning)
}
