package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// sample is the result of one round of one series.
type sample struct {
	rate   float64          // per second: what was accepted, acknowledged or written
	stored float64          // per second, until the last one was stored; 0 if nothing is stored
	count  float64          // total that rate is based on
	wait   time.Duration    // mean time of an HTTP client until its 202
	lasted time.Duration    // from the start until all was done
	cpu    map[string]usage // used in the round, by process
	other  int              // answers other than 202
	paced  *delays          // latencies of an open loop; nil: closed loop
}

// series is one measurement, repeated once per round.
type series struct {
	name   string
	aside  bool   // not directly comparable with the limit: in the table but not in the chart
	lacks  string // the store that was replaced; empty: none or several
	run    func(ctx context.Context, hold time.Duration) (sample, error)
	rounds []sample
}

// stage is a limit and what others reach in the same rounds: a slow phase of the machine affects both.
type stage struct {
	title string // for the table and the chart
	unit  string // of the rates, without "per second"
	limit *series
	ours  []*series
}

// measure runs every series of the stages once per round, in turn. With warm each one runs for a short time before the
// first round, to warm up connections, caches and compilers.
func (h *harness) measure(ctx context.Context, warm bool, stages ...stage) error {
	var all []*series
	for _, s := range stages {
		for _, one := range append([]*series{s.limit}, s.ours...) {
			if !slices.Contains(all, one) { // stages may share a limit
				all = append(all, one)
			}
		}
	}
	if warm {
		for _, s := range all {
			h.say("warming up: %s", s.name)
			if _, err := s.run(ctx, h.hold/5); err != nil {
				return fmt.Errorf("cannot measure %s: %w", s.name, err)
			}
		}
	}
	for round := range h.rounds {
		for _, s := range all {
			h.say("round %d of %d: %s", round+1, h.rounds, s.name)
			got, err := s.run(ctx, h.hold)
			if err != nil {
				return fmt.Errorf("cannot measure %s: %w", s.name, err)
			}
			s.rounds = append(s.rounds, got)
		}
	}
	return nil
}

// figure is the median of several rounds, the lowest and the highest.
type figure struct{ median, low, high float64 }

// figureOf returns the zero figure for no rounds.
func figureOf(rounds []float64) figure {
	if len(rounds) == 0 {
		return figure{}
	}
	s := slices.Sorted(slices.Values(rounds))
	mid := s[len(s)/2]
	if len(s)%2 == 0 {
		mid = (s[len(s)/2-1] + mid) / 2
	}
	return figure{mid, s[0], s[len(s)-1]}
}

// of collects one value of every round.
func (s *series) of(value func(sample) float64) figure {
	values := make([]float64, len(s.rounds))
	for i, r := range s.rounds {
		values[i] = value(r)
	}
	return figureOf(values)
}

// against compares every round with that of another series in the same round.
func (s *series) against(other *series, compare func(one, other sample) float64) figure {
	values := make([]float64, len(s.rounds))
	for i, r := range s.rounds {
		values[i] = compare(r, other.rounds[i])
	}
	return figureOf(values)
}

// over compares one value of every round with the rate of the limit in the same round.
func (s *series) over(limit *series, value func(sample) float64) figure {
	return s.against(limit, func(one, limit sample) float64 { return value(one) / limit.rate })
}

func rate(s sample) float64   { return s.rate }
func stored(s sample) float64 { return s.stored }

// passed is the throughput of the whole chain: stored if something is stored, else accepted.
func passed(s sample) float64 {
	if s.stored > 0 {
		return s.stored
	}
	return s.rate
}
