package main

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFigure(t *testing.T) {
	f := func(median, low, high float64, rounds ...float64) {
		t.Helper()
		require.Equal(t, figure{median, low, high}, figureOf(rounds))
	}
	f(0, 0, 0)
	f(5, 5, 5, 5)
	f(4, 3, 5, 3, 5)
	f(2, 1, 9, 9, 1, 2)
	f(2.5, 1, 9, 9, 1, 2, 3)
}

func TestRatiosCompareTheSameRound(t *testing.T) {
	limit := &series{rounds: []sample{{rate: 100}, {rate: 1000}, {rate: 10}}}
	ours := &series{rounds: []sample{{rate: 50}, {rate: 500}, {rate: 4}}}
	require.Equal(t, figure{0.5, 0.4, 0.5}, ours.over(limit, rate))
	require.Equal(t, figure{50, 4, 500}, ours.of(rate))
}

func TestThroughIsWhatIsStoredWhereSomethingIs(t *testing.T) {
	require.EqualValues(t, 7, passed(sample{rate: 9, stored: 7}))
	require.EqualValues(t, 9, passed(sample{rate: 9}))
}

func TestRoundsAreInterleaved(t *testing.T) {
	h := &harness{settings: settings{rounds: 2, hold: 5 * time.Second}, progress: io.Discard}
	var order []string
	one := func(name string) *series {
		return &series{name: name, run: func(_ context.Context, hold time.Duration) (sample, error) {
			order = append(order, name+" "+hold.String())
			return sample{rate: float64(len(order))}, nil
		}}
	}
	limit, a, b := one("limit"), one("a"), one("b")
	require.NoError(t, h.measure(t.Context(), true, stage{limit: limit, ours: []*series{a}},
		stage{limit: limit, ours: []*series{b, a}}))
	require.Equal(t, []string{"limit 1s", "a 1s", "b 1s", "limit 5s", "a 5s", "b 5s", "limit 5s", "a 5s", "b 5s"}, order)
	require.Equal(t, []sample{{rate: 4}, {rate: 7}}, limit.rounds, "warming up is not measured")
}

func TestAFailureNamesTheSeries(t *testing.T) {
	h := &harness{settings: settings{rounds: 1}, progress: io.Discard}
	broken := &series{name: "broken one", run: func(context.Context, time.Duration) (sample, error) {
		return sample{}, errors.New("down")
	}}
	for _, warm := range []bool{true, false} {
		require.ErrorContains(t, h.measure(t.Context(), warm, stage{limit: broken}), "broken one: down")
	}
}
