package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/loadtest"
	"tradestore/test/stack"
	"tradestore/trade"
)

// testStack is a harness with all that server and worker need.
func testStack(t *testing.T) *harness {
	t.Helper()
	broker, database := stack.ApacheKafka(t), stack.OwnPostgres(t)
	h := testHarness(t) // it ends first
	h.hold, h.kafka, h.postgres = 200*time.Millisecond, broker, database
	require.NoError(t, makeProgram(t.Context(), h))
	require.NoError(t, makeLimit(t.Context(), h))
	return h
}

func requireGoals(t *testing.T, r *results, figures ...string) {
	t.Helper()
	require.Len(t, r.goals, len(figures))
	for i, figure := range figures {
		require.Contains(t, r.goals[i].figure, figure)
		require.NotEmpty(t, r.goals[i].want)
		require.NotEmpty(t, r.goals[i].got)
	}
}

// Whether the goals are met says nothing after such short rounds on a busy machine; but nothing may be lost.
func TestLatencyAndOverload(t *testing.T) {
	h, r := testStack(t), &results{}
	require.NoError(t, latency(t.Context(), h, r))
	requireGoals(t, r, "accept latency, median", "accept latency, p99", "time to SUCCESS")
	r = &results{}
	require.NoError(t, overload(t.Context(), h, r))
	requireGoals(t, r, "goodput", "recovery", "not stored")
	require.True(t, r.goals[2].met, r.goals[2].got)
	require.NotContains(t, r.goals[2].got, "of 0")
}

func TestWithoutKafkaNothingIsMeasured(t *testing.T) {
	r := &results{}
	require.NoError(t, latency(t.Context(), testHarness(t), r))
	require.NoError(t, overload(t.Context(), testHarness(t), r))
	require.Empty(t, r.goals)
}

func TestSuccesses(t *testing.T) {
	ended := func(status trade.Status, millis ...int) (all []loadtest.Finality) {
		for i, ms := range millis {
			all = append(all, loadtest.Finality{Seq: uint64(i), Final: time.Duration(ms) * time.Millisecond,
				State: loadtest.State{Status: status}})
		}
		return all
	}
	f := func(want float64, millis ...int) {
		t.Helper()
		got, err := successes(ended(trade.Success, millis...))
		require.NoError(t, err)
		require.InDelta(t, want, got, 1e-9)
	}
	f(7, 7)
	f(30, 30, 10, 20)
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = 100 - i
	}
	f(99, hundred...)

	_, err := successes(nil)
	require.ErrorContains(t, err, "no request was followed")
	_, err = successes(append(ended(trade.Success, 1), ended(trade.Pending, 2)...))
	require.ErrorContains(t, err, "PENDING")
}

func TestLatencyGoals(t *testing.T) {
	rounds := func(all ...delays) (s *series) {
		s = &series{}
		for _, one := range all {
			s.rounds = append(s.rounds, sample{paced: &one})
		}
		return s
	}
	limit := rounds(delays{median: 1, p99: 2}, delays{median: 2, p99: 9}, delays{median: 1, p99: 3})
	ours := rounds(delays{3, 10, 100}, delays{4, 30, 140}, delays{9, 12, 80})
	got := latencyGoals(limit, ours)
	require.Equal(t, goal{figure: "accept latency, median, at 1,000/s", want: "at most 4 ms over the no-op's", met: true,
		got: "2.0 ms (2.0 to 8.0) over: 4.0 ms (3.0 to 9.0) against 1.0 ms (1.0 to 2.0)", part: "latency"}, got[0])
	require.Equal(t, "9.0 ms (8.0 to 21.0) over: 12.0 ms (10.0 to 30.0) against 3.0 ms (2.0 to 9.0)", got[1].got)
	require.True(t, got[1].met)
	require.Equal(t, "90.0 ms (68.0 to 110.0) over: 100.0 ms (80.0 to 140.0) against 12.0 ms (10.0 to 30.0)", got[2].got)
	require.True(t, got[2].met)
	require.False(t, latencyGoals(limit, rounds(delays{6, 13, 200}, delays{6, 50, 200}, delays{6, 13.1, 200}))[0].met)
}
