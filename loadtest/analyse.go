package loadtest

import (
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Findings summarizes the results of one attack.
type Findings struct {
	Load     Load
	Answers  []KindAnswers // warm-up included: a wrong answer is wrong at any time
	Accept   Latency
	Sent     Latency
	Timeline []Second // warm-up included
}

// sendGrace is how long after the end of the schedule an operation may be sent and still count as sent in time.
const sendGrace = 250 * time.Millisecond

// Analyse summarizes the results of an attack that followed the schedule up to until, which is its length unless the
// attack was interrupted.
func Analyse(schedule Schedule, plan *Plan, results *Results, until time.Duration) Findings {
	warm, warmup := schedule.Warm()
	until = min(until, schedule.Length())
	due := schedule.Before(until)
	f := Findings{Timeline: emptySeconds(schedule, until)}
	f.Load.Schedule = schedule.String()
	f.Load.Asked = due - min(due, warm)
	var accept, sent, delay []time.Duration
	var inTime, good, accepted uint64
	answers := newAnswerStats()
	perSecond := make([][]time.Duration, len(f.Timeline))
	var op Op
	for r := range results.All() {
		plan.Fill(&op, r.Seq)
		right := answers.add(&op, r)
		f.addToTimeline(r, right, perSecond)
		if r.Seq < warm || r.Due >= until {
			continue
		}
		f.Load.Sent++
		delay = append(delay, r.Sent-r.Due)
		if r.Sent < until+sendGrace {
			inTime++
		}
		if right {
			good++
		}
		if r.Status == http.StatusAccepted {
			accepted++
			accept = append(accept, r.Latency())
			sent = append(sent, r.Done-r.Sent)
		}
	}
	for i := range f.Timeline {
		f.Timeline[i].describe(perSecond[i])
	}
	f.Answers = answers.list()
	f.Accept, f.Sent, f.Load.DelayP99 = Describe(accept), Describe(sent), Describe(delay).P99
	if held := (until - warmup).Seconds(); held > 0 && f.Load.Asked > 0 {
		f.Load.Attained = float64(inTime) / float64(f.Load.Asked)
		f.Load.Rate, f.Load.Accepted = float64(f.Load.Sent)/held, float64(accepted)/held
		f.Load.Errors = 1 - float64(good)/float64(max(f.Load.Sent, 1))
	}
	return f
}

// emptySeconds returns the seconds of a run with only Asked set.
func emptySeconds(schedule Schedule, until time.Duration) []Second {
	timeline := make([]Second, int(math.Ceil(until.Seconds())))
	before := uint64(0)
	for i := range timeline {
		end := min(time.Duration(i+1)*time.Second, until)
		due := schedule.Before(end)
		timeline[i].At = float64(i)
		timeline[i].Asked = float64(due-before) / (end - time.Duration(i)*time.Second).Seconds()
		before = due
	}
	return timeline
}

// addToTimeline adds a result to the timeline: latency and errors in the second of its due time, sent and accepted in
// the second in which they happened.
func (f *Findings) addToTimeline(r *Result, right bool, latencies [][]time.Duration) {
	second := func(at time.Duration) *Second {
		if i := int(at / time.Second); i < len(f.Timeline) {
			return &f.Timeline[i]
		}
		return &Second{} // after the end of the schedule
	}
	second(r.Sent).Sent++
	if !right {
		second(r.Due).Errors++
	}
	if r.Status == http.StatusAccepted {
		second(r.Done).Accepted++
		if i := int(r.Due / time.Second); i < len(latencies) {
			latencies[i] = append(latencies[i], r.Latency())
		}
	}
}

func (s *Second) describe(latencies []time.Duration) {
	l := Describe(latencies)
	s.P50, s.P99, s.Max = l.P50, l.P99, l.Max
}

// answerStats counts the answers by kind of operation.
type answerStats [Kinds]KindAnswers

func newAnswerStats() *answerStats {
	stats := new(answerStats)
	for kind := range stats {
		stats[kind] = KindAnswers{Kind: Kind(kind).String(), Counts: map[string]uint64{}}
	}
	return stats
}

// add counts a result and says whether it is a right answer. No answer, 429 and 503 are neither right nor wrong.
func (s *answerStats) add(op *Op, r *Result) (right bool) {
	counts := &s[op.Kind]
	counts.Sent++
	counts.Counts[answerName(r)]++
	switch {
	case rightAnswer(op, r):
		return true
	case r.Status == 0, r.Status == http.StatusTooManyRequests, r.Status == http.StatusServiceUnavailable:
		return false
	}
	counts.Wrong++
	return false
}

func (s *answerStats) list() []KindAnswers {
	return slices.DeleteFunc(slices.Clone(s[:]), func(k KindAnswers) bool { return k.Sent == 0 })
}

// rightAnswer says whether the operation may get this answer.
func rightAnswer(op *Op, r *Result) bool {
	if !slices.Contains(op.Status, int(r.Status)) {
		return false
	}
	return r.Status < 400 || op.Code == "" || op.Code == r.Code
}

// answerName names an answer in a report: "202", "400 STALE_VERSION", "no answer".
func answerName(r *Result) string {
	switch {
	case r.Status == 0:
		return "no answer"
	case r.Code != "":
		return strconv.Itoa(int(r.Status)) + " " + string(r.Code)
	}
	return strconv.Itoa(int(r.Status))
}

// Describe returns the exact percentiles of latencies, which it sorts.
func Describe(latencies []time.Duration) Latency {
	n := len(latencies)
	if n == 0 {
		return Latency{}
	}
	slices.Sort(latencies)
	total := 0.0
	for _, l := range latencies {
		total += l.Seconds()
	}
	// The smallest latency that a share of q of all do not exceed.
	at := func(q float64) float64 {
		return latencies[min(n-1, max(0, int(math.Ceil(q*float64(n)-1e-9))-1))].Seconds()
	}
	l := Latency{
		Count: uint64(n), Mean: total / float64(n), P50: at(.5), P90: at(.9), P95: at(.95), P99: at(.99), P999: at(.999),
		Max: latencies[n-1].Seconds(),
	}
	// Eight points for each nine: 0, ..., 0.9, ..., 0.99, up to the resolution that n latencies allow.
	for k := 0; ; k++ {
		beyond := math.Pow(10, -float64(k)/8)
		if beyond*float64(n) < 1 {
			break
		}
		l.Curve = append(l.Curve, Quant{Q: 1 - beyond, Seconds: at(1 - beyond)})
	}
	l.Curve = append(l.Curve, Quant{Q: 1, Seconds: l.Max})
	return l
}
