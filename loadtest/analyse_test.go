package loadtest

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"tradestore/trade"
)

const ms = time.Millisecond

// answered is the results of a schedule whose operations were sent on time and answered as they must be, each a
// millisecond later, as far as change does not make it otherwise. A change that returns false leaves one out.
func answered(s Schedule, p *Plan, change func(*Result) bool) *Results {
	results := NewResults(time.Now())
	for seq := range s.Total() {
		op := p.Op(seq)
		due := s.At(seq)
		r := Result{Seq: seq, Kind: op.Kind, Due: due, Sent: due, Done: due + ms, Status: uint16(op.Status[0])}
		if r.Status >= 400 {
			r.Code = op.Code
		}
		if change == nil || change(&r) {
			results.Add(r)
		}
	}
	return results
}

func newTrades() Mix { return Mix{New: 1} }

func TestAnalyse(t *testing.T) {
	s := NewSchedule(2*time.Second, []Stage{{100, 100, 4 * time.Second}})
	p := NewPlan("t", 1, newTrades(), 10, 0)
	warm, _ := s.Warm()
	f := func(change func(*Result) bool) Findings { return Analyse(s, p, answered(s, p, change), s.Length()) }

	all := f(nil)
	require.Equal(t, Load{Schedule: "100/4s", Asked: 400, Sent: 400, Attained: 1, Rate: 100, Accepted: 100}, all.Load)
	require.EqualValues(t, 400, all.Accept.Count, "the warm-up does not count")
	require.Equal(t, []float64{.001, .001, .001}, []float64{all.Accept.P50, all.Accept.P99, all.Accept.Max})
	require.Len(t, all.Timeline, 6)
	for i, second := range all.Timeline[2:] {
		require.Equal(t, Second{At: float64(i + 2), Asked: 100, Sent: 100, Accepted: 100, P50: .001, P99: .001, Max: .001},
			second)
	}
	require.Equal(t, []KindAnswers{{Kind: "new", Sent: warm + 400, Counts: map[string]uint64{"202": warm + 400}}},
		all.Answers, "answers of the warm-up are judged")

	late := f(func(r *Result) bool { r.Sent, r.Done = r.Sent+50*ms, r.Done+50*ms; return true })
	require.InDelta(t, .051, late.Accept.P50, 1e-9, "counts from when it was due")
	require.InDelta(t, .001, late.Sent.P50, 1e-9)
	require.InDelta(t, .05, late.Load.DelayP99, 1e-9)
	require.EqualValues(t, 1, late.Load.Attained, "a moment is no lack of load")

	const stalled = 5 * time.Second // from here on it sends after the end
	slow := f(func(r *Result) bool {
		if r.Due >= stalled {
			r.Sent, r.Done = r.Sent+2*time.Second, r.Done+2*time.Second
		}
		return true
	})
	require.EqualValues(t, .75, slow.Load.Attained)
	require.EqualValues(t, 400, slow.Load.Sent)
	require.Zero(t, slow.Timeline[5].Sent)
	require.EqualValues(t, 2.001, slow.Timeline[5].Max, "the latency lies where it was due")
	require.EqualValues(t, .5, f(func(r *Result) bool { return r.Due < 4*time.Second }).Load.Attained)

	cut := Analyse(s, p, answered(s, p, func(r *Result) bool { return r.Due < 3*time.Second }), 3*time.Second)
	require.EqualValues(t, 1, cut.Load.Attained, "of what was due until it was interrupted")
	require.EqualValues(t, 100, cut.Load.Rate)
	require.Len(t, cut.Timeline, 3)
}

func TestErrorsAreCountedFromTheEndOfTheWarmUp(t *testing.T) {
	s := NewSchedule(time.Second, []Stage{{100, 100, time.Second}})
	p := NewPlan("t", 1, newTrades(), 10, 0)
	warm, _ := s.Warm()
	f := func(status uint16, errors float64, wrong uint64) {
		t.Helper()
		for _, seq := range []uint64{0, warm + 7} {
			found := Analyse(s, p, answered(s, p, func(r *Result) bool {
				if r.Seq == seq {
					r.Status = status
				}
				return true
			}), s.Length())
			if seq == 0 {
				assert.Zero(t, found.Load.Errors)
				assert.EqualValues(t, 1, found.Timeline[0].Errors)
			} else {
				assert.InDelta(t, errors, found.Load.Errors, 1e-9)
				assert.EqualValues(t, 99, found.Accept.Count)
			}
			assert.Equal(t, wrong, found.Answers[0].Wrong, "wrong is wrong at any time")
		}
	}
	f(0, .01, 0)
	f(503, .01, 0)
	f(429, .01, 0)
	f(400, .01, 1)
	f(500, .01, 1)
	f(200, .01, 1)
}

// One line per answer: which are right for which operation.
func TestRightAnswer(t *testing.T) {
	f := func(op Op, status uint16, code trade.Code, want bool) {
		t.Helper()
		r := Result{Status: status, Code: code}
		assert.Equal(t, want, rightAnswer(&op, &r))
	}
	stale := Op{Status: []int{202, 400}, Code: "STALE_VERSION"}
	f(stale, 202, "", true)
	f(stale, 400, "STALE_VERSION", true)
	f(stale, 400, "INVALID_TRADE", false)
	f(stale, 400, "", false)
	f(Op{Status: []int{400}}, 400, "MALFORMED_JSON", true)
	f(Op{Status: []int{202}}, 200, "", false)
	f(Op{Status: []int{202}}, 0, "", false)
}

// The percentiles are those of the definition, whatever the latencies are.
func TestDescribe(t *testing.T) {
	require.Equal(t, Latency{}, Describe(nil))
	one := Describe([]time.Duration{3 * time.Second})
	require.Equal(t, Latency{Count: 1, Mean: 3, P50: 3, P90: 3, P95: 3, P99: 3, P999: 3, Max: 3,
		Curve: []Quant{{0, 3}, {1, 3}}}, one)
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(100-i) * time.Second
	}
	l := Describe(hundred)
	require.Equal(t, []float64{50, 90, 95, 99, 100, 100, 50.5},
		[]float64{l.P50, l.P90, l.P95, l.P99, l.P999, l.Max, l.Mean})

	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Int64Range(0, 1e12), 1, 300).Draw(t, "nanoseconds")
		latencies := make([]time.Duration, len(values))
		for i, v := range values {
			latencies[i] = time.Duration(v)
		}
		l := Describe(slices.Clone(latencies))
		for _, q := range append(l.Curve, Quant{.5, l.P50}, Quant{.99, l.P99}, Quant{.999, l.P999}) {
			within, below := 0, 0
			for _, v := range latencies {
				if v.Seconds() <= q.Seconds {
					within++
				}
				if v.Seconds() < q.Seconds {
					below++
				}
			}
			require.GreaterOrEqual(t, float64(within), q.Q*float64(len(values))-1e-6)
			require.Less(t, float64(below), max(1, q.Q*float64(len(values))), "the smallest that does")
		}
	})
}
