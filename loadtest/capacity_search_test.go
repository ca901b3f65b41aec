package loadtest

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestSearch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Float64Range(1, 1e5).Draw(t, "limit")
		start := rapid.Float64Range(1, 1e5).Draw(t, "start")
		tried := 0
		knee, beyond, err := search(start, .1, 2e5, func(rate float64) (bool, error) {
			tried++
			return rate <= limit, nil
		})
		require.NoError(t, err)
		require.LessOrEqual(t, knee, limit)
		require.Greater(t, beyond, limit)
		require.LessOrEqual(t, beyond/knee, precision+1e-9)
		require.Less(t, tried, 2*maxSteps)
	})
}

func TestSearchAtItsEnds(t *testing.T) {
	f := func(start, limit, wantKnee, wantBeyond float64) {
		t.Helper()
		knee, beyond, err := search(start, 1, 1000, func(rate float64) (bool, error) { return rate <= limit, nil })
		require.NoError(t, err)
		assert.Equal(t, []float64{wantKnee, wantBeyond}, []float64{knee, beyond})
	}
	f(100, 5000, 1000, 0)
	f(5000, 5000, 1000, 0)
	f(100, .5, 0, 1)

	broken := errors.New("gone")
	_, _, err := search(100, 1, 1000, func(float64) (bool, error) { return false, broken })
	require.ErrorIs(t, err, broken)
}

func TestAHiccupIsNoLimit(t *testing.T) {
	tried := map[float64]int{}
	knee, _, err := search(100, 1, 1000, func(rate float64) (bool, error) {
		tried[rate]++
		return rate <= 500 && tried[rate] > 1, nil
	})
	require.NoError(t, err)
	require.InDelta(t, 500, knee, 25)
}

func TestGrowth(t *testing.T) {
	line := func(n int, value func(i int) float64) (points []Sample) {
		for i := range n {
			points = append(points, Sample{float64(i), value(i)})
		}
		return points
	}
	slope, deviation := growth(line(10, func(i int) float64 { return 3 * float64(i) }))
	require.InDelta(t, 3, slope, 1e-9)
	require.InDelta(t, 0, deviation, 1e-9)
	slope, deviation = growth(line(10, func(i int) float64 { return float64(i % 2 * 100) }))
	require.Less(t, slope, 3*deviation, "noise does not grow")
	slope, _ = growth(line(2, func(i int) float64 { return float64(i) }))
	require.Zero(t, slope, "two points are no trend")
}
