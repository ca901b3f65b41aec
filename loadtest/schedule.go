package loadtest

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Stage is a part of a schedule in which the rate changes linearly from From to To, in operations per second.
type Stage struct {
	From, To float64
	For      time.Duration
}

const (
	maxRate    = 1_000_000      // per second: beyond it the nanoseconds of the clock are too coarse
	maxStage   = 24 * time.Hour // beyond it memory is the limit: a result takes about 100 bytes
	stageForms = `write stages as RATE/DURATION or FROM..TO/DURATION with commas between, like "1000/30s,1000..2000/30s"`
)

// String returns the stage in the form that ParseStages reads.
func (s Stage) String() string {
	rate := strconv.FormatFloat(s.From, 'f', -1, 64)
	if s.From != s.To {
		rate += ".." + strconv.FormatFloat(s.To, 'f', -1, 64)
	}
	return rate + "/" + brief(s.For)
}

// brief writes a duration without zero parts at the end: 1m, not 1m0s.
func brief(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// ParseStages reads stages like "1000/30s,1000..2000/30s": 1,000 operations per second for 30 s, then linearly up to
// 2,000 within 30 s. A rate may be a fraction, or 0 for a pause, but not all rates may be 0.
func ParseStages(text string) ([]Stage, error) {
	var stages []Stage
	any := false
	for part := range strings.SplitSeq(text, ",") {
		stage, err := parseStage(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		stages = append(stages, stage)
		any = any || stage.From > 0 || stage.To > 0
	}
	if !any {
		return nil, fmt.Errorf("stages %q send nothing: %s", text, stageForms)
	}
	return stages, nil
}

func parseStage(text string) (Stage, error) {
	rates, long, ok := strings.Cut(text, "/")
	if !ok {
		return Stage{}, fmt.Errorf("stage %q has no duration: %s", text, stageForms)
	}
	first, last, ramp := strings.Cut(rates, "..")
	if !ramp {
		last = first
	}
	from, fromOK := parseRate(first)
	to, toOK := parseRate(last)
	if !fromOK || !toOK {
		return Stage{}, fmt.Errorf("stage %q: %q is no rate, 0 to %d per second: %s", text, rates, maxRate, stageForms)
	}
	d, err := time.ParseDuration(strings.TrimSpace(long))
	if err != nil || d <= 0 || d > maxStage {
		return Stage{}, fmt.Errorf("stage %q: %q is no duration up to %s: %s", text, long, brief(maxStage), stageForms)
	}
	return Stage{from, to, d}, nil
}

func parseRate(text string) (perSecond float64, ok bool) {
	n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	return n, err == nil && n >= 0 && n <= maxRate // NaN is in no range
}

// Schedule says when each operation is due: number k when the integral of the rate is k. So the first is due at once
// and, at a steady rate, the distance is constant. It does not depend on what was sent or answered. A Schedule is
// immutable; it is a vegeta.Pacer.
type Schedule struct {
	pieces []piece
	stages []Stage
	warm   uint64 // operations of the warm-up
	warmup time.Duration
	total  uint64 // operations in all
	length time.Duration
	max    float64
}

// piece is a stage with its start: the operations from first on are due from begin on.
type piece struct {
	Stage
	begin time.Duration
	first float64 // rarely a whole number
	ops   float64 // the integral of the rate
}

// tolerance is for sums that a float cannot hold exactly: 10,000 times 0.1 must be 1,000 operations.
const tolerance = 1e-6

// NewSchedule puts a warm-up before the stages. In its first half the rate rises from a tenth of the rate of the first
// stage to all of it, and stays there. The first stage begins with an operation of its own. Stages are as from
// ParseStages: rates are finite and not below 0, durations above 0.
func NewSchedule(warmup time.Duration, stages []Stage) Schedule {
	s := Schedule{stages: slices.Clone(stages), warmup: max(warmup, 0)}
	if s.warmup > 0 && len(stages) > 0 {
		half, rate := s.warmup/2, stages[0].From
		s.warm = ceil(s.add(0, Stage{rate / 10, rate, half}, Stage{rate, rate, s.warmup - half}))
	}
	s.total = ceil(s.add(float64(s.warm), stages...))
	for _, stage := range stages {
		s.max = max(s.max, stage.From, stage.To)
	}
	return s
}

// add appends stages whose first operation is number first, and returns the number of the one after them.
func (s *Schedule) add(first float64, stages ...Stage) float64 {
	for _, stage := range stages {
		p := piece{Stage: stage, begin: s.length, first: first, ops: (stage.From + stage.To) / 2 * stage.For.Seconds()}
		s.pieces = append(s.pieces, p)
		s.length += stage.For
		first += p.ops
	}
	return first
}

// ceil counts the whole numbers from 0 to below n.
func ceil(n float64) uint64 { return uint64(math.Ceil(n - tolerance)) }

// At returns when operation seq is due, counted from the start. Those at or beyond Total are never due; for them it
// returns Length.
func (s Schedule) At(seq uint64) time.Duration {
	if seq >= s.total {
		return s.length
	}
	k := float64(seq)
	// The last piece that begins at or before k, without pauses: operation 1000 of "1000/1s,0/1s,1000/1s" is due after the
	// pause.
	for i := len(s.pieces) - 1; i >= 0; i-- {
		if p := &s.pieces[i]; p.ops > 0 && p.first <= k+tolerance {
			return p.at(k)
		}
	}
	return s.length
}

// at solves first + from*t + (to-from)/(2*for)*t^2 = k for t, in the form that is exact for a steady rate.
func (p *piece) at(k float64) time.Duration {
	x := max(k-p.first, 0)
	if x == 0 {
		return p.begin
	}
	seconds := p.For.Seconds()
	root := math.Sqrt(max(p.From*p.From+2*x*(p.To-p.From)/seconds, 0))
	t := 2 * x / (p.From + root)
	return p.begin + min(time.Duration(math.Round(t*1e9)), p.For)
}

// Before returns how many operations are due before a time. Before(At(seq)) is seq, unless several are due in the same
// nanosecond.
func (s Schedule) Before(at time.Duration) uint64 {
	lo, hi := uint64(0), s.total // At rises with seq: binary search
	for lo < hi {
		mid := lo + (hi-lo)/2
		if s.At(mid) < at {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// Total returns the number of operations, warm-up included.
func (s Schedule) Total() uint64 { return s.total }

// Warm returns the number of operations of the warm-up, and its length. Operation number ops is the first that counts;
// it is due when the warm-up ends, unless the first stage begins at rate 0.
func (s Schedule) Warm() (ops uint64, d time.Duration) { return s.warm, s.warmup }

// Length returns how long the schedule is, warm-up included.
func (s Schedule) Length() time.Duration { return s.length }

// Max returns the highest rate, in operations per second.
func (s Schedule) Max() float64 { return s.max }

// Rate returns the rate at a time, in operations per second: 0 before the start and from the end on.
func (s Schedule) Rate(at time.Duration) float64 {
	for i := range s.pieces {
		if p := &s.pieces[i]; at >= p.begin && at-p.begin < p.For {
			return p.From + (p.To-p.From)*float64(at-p.begin)/float64(p.For)
		}
	}
	return 0
}

// Pace says how long to wait before the next operation after hits of them, and whether all were sent. A late operation
// is due at once.
func (s Schedule) Pace(elapsed time.Duration, hits uint64) (wait time.Duration, stop bool) {
	if hits >= s.total {
		return 0, true
	}
	return max(s.At(hits)-elapsed, 0), false
}

// String returns the stages in the form that ParseStages reads, without the warm-up.
func (s Schedule) String() string {
	parts := make([]string, len(s.stages))
	for i, stage := range s.stages {
		parts[i] = stage.String()
	}
	return strings.Join(parts, ",")
}
