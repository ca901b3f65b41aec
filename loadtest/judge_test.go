package loadtest

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// well is the report of a run in which everything held.
func well() *Report {
	flat := func(name string, value float64) Series {
		return Series{Name: name, Points: []Sample{{0, value}, {1, value}}}
	}
	return &Report{
		Machine: Machine{Cores: 4},
		Load:    Load{Attained: 1, Connections: 100, Cores: 4},
		Answers: []KindAnswers{{Kind: "new", Sent: 10}},
		Accept:  Latency{Count: 10, P99: .02},
		Final:   Latency{Count: 10, P99: .2},
		Series:  []Series{flat(generatorCPU, .5), flat(machineCPU, 2), flat("server CPU", 1), flat(inFlight, 7)},
	}
}

var limits = Objectives{AcceptP99: 100 * time.Millisecond, FinalP99: time.Second, ErrorRate: .001}

// One line per reason for which a run does not pass.
func TestVerdicts(t *testing.T) {
	f := func(change func(*Report), want string, why ...string) {
		t.Helper()
		r := well()
		change(r)
		Judge(r, limits)
		assert.Equal(t, want, r.Verdict)
		require.Len(t, r.Why, len(why), r.Why)
		for i := range why {
			assert.Contains(t, r.Why[i], why[i])
		}
	}
	level := func(name string, value float64) func(*Report) {
		return func(r *Report) {
			r.Load.Attained = .98
			for i := range r.Series {
				if r.Series[i].Name == name {
					r.Series[i].Points = []Sample{{0, value}}
				}
			}
		}
	}
	f(func(*Report) {}, Pass)
	f(func(r *Report) { r.Accept.P99 = .1 }, Pass)
	f(func(r *Report) { r.Accept.P99 = .101 }, Fail, "accept p99: 101 ms")
	f(func(r *Report) { r.Final.P99 = 1.1 }, Fail, "final status p99: 1.10 s")
	f(func(r *Report) { r.Accept, r.Final = Latency{}, Latency{} }, Fail, "nothing to measure", "nothing to measure")
	f(func(r *Report) { r.Load.Errors = .001 }, Pass)
	f(func(r *Report) { r.Load.Errors = .002 }, Fail, "error rate: 0.2 %")
	f(func(r *Report) { r.Answers[0].Wrong = 1 }, Fail, "wrong answers: 1")
	f(func(r *Report) { r.Reconciliation.Lost.Count = 1 }, Fail, "lost: 1, should be 0")
	f(func(r *Report) { r.Reconciliation.Doubled.Count = 2 }, Fail, "doubled: 2")
	f(func(r *Report) { r.Reconciliation.Stuck.Count = 3 }, Fail, "stuck: 3")
	f(func(r *Report) { r.Reconciliation.Wrong.Count = 4 }, Fail, "wrong ends or contents: 4")
	f(func(r *Report) { r.Interrupted = "stopped after 3 s" }, Void, "stopped after 3 s")
	f(func(r *Report) { r.Interrupted, r.Accept.P99 = "stopped", 9 }, Void, "stopped", "accept p99")
	f(func(r *Report) { r.Interrupted, r.Reconciliation.Lost.Count = "stopped", 1 }, Fail, "stopped", "lost: 1")
	f(func(r *Report) { r.Load.Attained = .99 }, Pass)
	f(level(generatorCPU, 3.9), Void, "the generator's CPU was the limit, it used 3.9 of 4 cores")
	f(level(machineCPU, 3.95), Void, "the CPU of this machine was the limit, 4.0 of 4 cores were busy (others 2.45, "+
		"server 1.00, generator 0.50)")
	f(level(inFlight, 100), Void, "all 100 connections (--connections)")
	f(level("", 0), Void, "the generator was late")
}

func TestEveryObjectiveIsListed(t *testing.T) {
	r := well()
	Judge(r, limits)
	var names, flags []string
	for _, o := range r.Objectives {
		names, flags = append(names, o.Name), append(flags, o.Flag)
		assert.True(t, o.OK, o.Name)
		assert.NotEmpty(t, o.Seen)
		assert.NotEmpty(t, o.Limit)
	}
	assert.Equal(t, "accept p99, final status p99, error rate, wrong answers, lost, doubled, stuck, wrong ends or "+
		"contents, rate attained", strings.Join(names, ", "))
	assert.Equal(t, "--max-accept-p99 --max-final-p99 --max-error-rate", strings.TrimSpace(strings.Join(flags, " ")))
}
