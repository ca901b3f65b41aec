package loadtest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A store with room for 150 trades per second: the search finds about that, sees it shed beyond, and recover.
func TestFindCapacity(t *testing.T) {
	store := newRoomyStore(t, 150)
	cfg := patient(store.base)
	cfg.FindCapacity, cfg.Rate, cfg.Mix = true, 60, "new=1"
	var said strings.Builder
	r, results, err := FindCapacity(t.Context(), cfg, Env{Progress: &said})
	require.NoError(t, err)
	require.Equal(t, Pass, r.Verdict, "%v\n%s", r.Why, said.String())
	c := r.Capacity
	require.Positive(t, c.Knee) // how near it comes depends on what else the machine does
	require.Less(t, c.Knee, 240.)
	require.Greater(t, c.Beyond, c.Knee)
	require.LessOrEqual(t, c.Beyond/c.Knee, precision+1e-9)
	require.Positive(t, c.Overload.Rate)
	if c.Overload.Rate > 200 {
		require.Positive(t, c.Overload.Shed, "it sheds at twice the knee")
		require.Less(t, c.Overload.Goodput, c.Overload.Rate)
	}
	require.NotEmpty(t, c.Saturated)
	held := map[bool]int{}
	for _, step := range c.Steps {
		held[step.Sustained]++
		assert.Equal(t, step.Sustained, len(step.Why) == 0)
		assert.Zero(t, step.Lost)
	}
	require.Positive(t, held[true])
	require.GreaterOrEqual(t, held[false], 2, "each is tried once more")
	require.Contains(t, said.String(), "not sustained: ")

	// The report is that of the best step, with the proof and the pictures of all of them.
	require.InDelta(t, c.Knee, r.Load.Rate, c.Knee/10)
	count := uint64(0)
	for range results.All() {
		count++
	}
	require.Greater(t, r.Answers[0].Sent, 4*count)
	require.Equal(t, r.Answers[0].Counts["202"], r.Reconciliation.Accepted)
	require.Equal(t, r.Reconciliation.Accepted, r.Reconciliation.Success)
	for i := range r.Timeline[1:] {
		require.Greater(t, r.Timeline[i+1].At, r.Timeline[i].At, "one after the other")
	}
}

func TestAnInterruptedSearchReportsWhatItKnows(t *testing.T) {
	store := newRoomyStore(t, 0)
	ctx, interrupt := context.WithCancel(t.Context())
	posts := 0
	store.before = func() {
		if posts++; posts == 250 {
			interrupt()
		}
	}
	cfg := patient(store.base)
	r, results, err := FindCapacity(ctx, cfg, Env{})
	require.NoError(t, err)
	require.NotNil(t, results)
	require.Equal(t, Void, r.Verdict)
	require.Contains(t, r.Why[0], "interrupted")
	require.NotEmpty(t, r.Capacity.Steps)
	require.Equal(t, r.Reconciliation.Accepted, r.Reconciliation.Success+r.Reconciliation.Failed,
		"that of the step that was cut off too")
}

func TestRecovery(t *testing.T) {
	c := &capacitySearch{session: &session{cfg: patient("")}}
	c.cfg.MaxAcceptP99, c.cfg.MaxFinalP99 = 100*ms, time.Second
	second := func(at int, p99, errors float64) Second {
		return Second{At: float64(at), Asked: 50, P99: p99, Errors: errors}
	}
	f := func(want float64, lag []Sample, timeline ...Second) {
		t.Helper()
		assert.Equal(t, want, c.recovery(timeline, lag, 10*time.Second, 50))
	}
	bad := second(9, 5, 40)
	f(0, nil, bad, second(10, .01, 0), second(11, .01, 0), second(12, .01, 0))
	f(1, nil, bad, second(10, .2, 0), second(11, .01, 0), second(12, .01, 0), second(13, .01, 0))
	f(2, nil, bad, second(10, .01, 0), second(11, .01, 9), second(12, .01, 0), second(13, .01, 0), second(14, .01, 0))
	f(1, []Sample{{10.5, 80}, {11.5, 20}}, bad, second(10, .01, 0), second(11, .01, 0), second(12, .01, 0),
		second(13, .01, 0))
	f(-1, nil, bad, second(10, .01, 0), second(11, .01, 0))
	f(-1, nil, bad, second(10, .2, 0), second(11, .2, 0), second(12, .2, 0))
}

// One line per thing that can give out first.
func TestExplain(t *testing.T) {
	low := measuredStep{Step: Step{Rate: 100, Attained: 1}, stages: map[string]float64{"request store": .002,
		"apply transaction": .01}}
	f := func(want string, change func(*measuredStep)) {
		t.Helper()
		at := measuredStep{
			Step: Step{Rate: 1000, Attained: 1, Why: []string{"accept p99"},
				CPU: []Usage{{"server", 1}, {"generator", .5}}},
			generator: "light", machine: 2, stages: map[string]float64{"request store": .002, "apply transaction": .01},
		}
		change(&at)
		assert.True(t, strings.HasPrefix(explain(low, at, 4, 4), want), explain(low, at, 4, 4))
	}
	f("the generator (light): it used 3.50 of 4 cores and attained 90.0 % of 1,000/s",
		func(a *measuredStep) { a.Attained, a.CPU[1].Cores = .9, 3.5 })
	f("CPU of this machine, which the generator shares: 3.90 of 4 cores",
		func(a *measuredStep) { a.Attained, a.machine = .9, 3.9 })
	f("CPU of this machine: 3.90 of 4 cores", func(a *measuredStep) { a.machine, a.CPU = 3.9, a.CPU[:1] })
	f("the connections of the generator", func(a *measuredStep) { a.Attained = .9 })
	f("applying: the lag grew by 300 records per second at 1,000/s: 10 ms on average at 100/s, 50 ms at 1,000/s; CPU "+
		"at 1,000/s: server 1.00", func(a *measuredStep) {
		a.LagGrowth, a.stages["apply transaction"] = 300, .05
	})
	f("request store: 2 ms on average at 100/s, 80 ms at 1,000/s",
		func(a *measuredStep) { a.stages["request store"], a.stages["queue wait"] = .08, .2 })
	f("queue wait: 0 s on average", func(a *measuredStep) { a.stages["queue wait"] = .2 })
	f("CPU of server", func(a *measuredStep) { a.CPU[0].Cores = 3.6 })
	f("not known: accept p99", func(*measuredStep) {})
}
