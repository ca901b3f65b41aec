package main

import (
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/loadtest"
)

func TestRecovery(t *testing.T) {
	const before = 0.1 // seconds
	f := func(want time.Duration, back bool, p99 ...float64) {
		t.Helper()
		var timeline []loadtest.Second
		for _, one := range p99 {
			second := loadtest.Second{P99: one}
			if one < 0 {
				second = loadtest.Second{Errors: 1}
			}
			timeline = append(timeline, second)
		}
		took, ok := recovery(timeline, before)
		require.Equal(t, want, took)
		require.Equal(t, back, ok)
	}
	f(0, true, 0.1, 0.2, 0.2)
	f(time.Second, true, 0.3, 0.1, 0.1, 0.1, 9)
	f(2*time.Second, true, 0.1, -1, 0.1, 0.1, 0.1)
	f(4*time.Second, true, 0.1, 0.1, -1, 0.3, 0.1, 0.1, 0.1)
	f(3*time.Second, false, 0.3, 0.1, 0.1)
	f(0, false)
}

// flooded is a load of a second whose trades are answered as given, each at its time.
func flooded(h *harness, rate float64, answers ...loadtest.Result) *load {
	l := h.newLoad(rate, time.Second)
	for i, answer := range answers {
		answer.Seq = uint64(i)
		l.results.Sending()
		l.results.Add(answer)
	}
	return l
}

func TestOverloadGoals(t *testing.T) {
	o := &overloadTest{harness: &harness{progress: io.Discard}}
	accepted := func(done time.Duration) loadtest.Result { return loadtest.Result{Status: 202, Done: done} }
	shed := loadtest.Result{Status: 503, Code: "QUEUE_FULL"}
	flood := flooded(o.harness, 20, accepted(time.Millisecond), accepted(time.Second), accepted(1001*time.Millisecond),
		shed, shed)
	before := flooded(o.harness, 1, accepted(100*time.Millisecond))
	o.recordAccepted(flood.plan, flood.results)
	o.recordAccepted(before.plan, before.results)
	require.Equal(t, []string{flood.plan.TradeID(0), flood.plan.TradeID(1), flood.plan.TradeID(2), before.plan.TradeID(0)},
		o.accepted)

	got := o.goals(figure{2, 1, 3}, flood, before, flooded(o.harness, 1, accepted(time.Millisecond)), 0)
	require.True(t, got[0].met)
	require.Equal(t, "1.00 x: 2/s against 2 (1 to 3)/s; of 20/s 5/s found a connection, and of those got 60.0 % 202, "+
		"40.0 % 503 QUEUE_FULL", got[0].got)
	require.False(t, got[1].met, "a second is too short to be sure")
	require.Equal(t, "not within 1 s; the p99 at 1/s was 100 ms", got[1].got)
	require.True(t, got[2].met)
	require.Equal(t, "0 of 4", got[2].got)

	got = o.goals(figure{3, 3, 3}, flood, before, flood, 1)
	require.False(t, got[0].met)
	require.False(t, got[2].met)
	require.Equal(t, "1 of 4", got[2].got)
}
