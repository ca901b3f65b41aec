package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tradestore/loadtest"
	"tradestore/trade"
)

const (
	pacedRate   = 1000.0 // trades per second: the stack is mostly idle
	warmupRate  = 3000.0 // for the warm-up: Java compiles code that runs often
	followed    = 50.0   // trades per second that are polled until their outcome
	followLimit = 20 * time.Second

	medianGoal  = 4.0 // milliseconds
	p99Goal     = 10.0
	successGoal = 100.0
)

// delays are latencies from the due time, in milliseconds.
type delays struct {
	median, p99 float64 // until the answer
	success     float64 // p99, until a read shows SUCCESS; 0 if nothing is stored
}

// latency measures the latency of a trade under low load: until its 202, against the no-op HTTP server, and until its
// request shows SUCCESS.
func latency(ctx context.Context, h *harness, r *results) error {
	if h.kafka == nil {
		return nil
	}
	t, _, err := h.newRoles(ctx, "latency")
	if err != nil {
		return err
	}
	h.say("warming up with %s/s", thousands(warmupRate))
	if _, err := h.paced(ctx, h.limit, warmupRate, h.hold); err != nil {
		return err
	}
	if _, err := h.paced(ctx, t, warmupRate, 4*h.hold); err != nil {
		return err
	}
	limit, ours := h.pacedSeries(h.limit), h.pacedSeries(t)
	if err := h.measure(ctx, false, stage{limit: limit, ours: []*series{ours}}); err != nil {
		return err
	}
	for _, g := range latencyGoals(limit, ours) {
		r.addGoal(g)
	}
	return nil
}

func (h *harness) pacedSeries(t target) *series {
	return &series{name: t.name, run: func(ctx context.Context, hold time.Duration) (sample, error) {
		return h.paced(ctx, t, pacedRate, hold)
	}}
}

// paced sends new trades at a rate and follows a sample.
func (h *harness) paced(ctx context.Context, t target, rate float64, hold time.Duration) (sample, error) {
	load := h.newLoad(rate, hold)
	var follower *loadtest.Follower
	if t.worker != "" {
		api := loadtest.NewAPI(t.url(), partitions, followLimit)
		defer api.Close()
		follower = loadtest.Follow(ctx, api, load.plan, load.results, followed)
	}
	sendErr := load.send(ctx, t, 0)
	paced := &delays{}
	if follower != nil {
		ended, _ := follower.Wait(followLimit)
		var err error
		if paced.success, err = successes(ended); err != nil {
			return sample{}, fmt.Errorf("%s: %w", t.name, err)
		}
	}
	if sendErr != nil {
		return sample{}, sendErr
	}
	s, err := summary(load.results)
	if err != nil {
		return sample{}, fmt.Errorf("%s: %w", t.name, err)
	}
	accept := load.findings().Accept
	paced.median, paced.p99 = 1000*accept.P50, 1000*accept.P99
	s.paced = paced
	return s, nil
}

// successes returns the p99 of the followed requests. Errors: one of them is not SUCCESS; there are none.
func successes(ended []loadtest.Finality) (p99 float64, err error) {
	took := make([]time.Duration, len(ended))
	for i, one := range ended {
		if one.State.Status != trade.Success {
			return 0, fmt.Errorf("trade %d of this load was accepted and shows %q %s", one.Seq, one.State.Status,
				one.State.Reason)
		}
		took[i] = one.Final
	}
	if len(took) == 0 {
		return 0, errors.New("no request was followed")
	}
	return 1000 * loadtest.Describe(took).P99, nil
}

// latencyGoals compares the rounds of ours with those of the limit.
func latencyGoals(limit, ours *series) []goal {
	median := func(s sample) float64 { return s.paced.median }
	p99 := func(s sample) float64 { return s.paced.p99 }
	success := func(s sample) float64 { return s.paced.success }
	one := func(what, want string, most float64, more, ours, limit figure) goal {
		return goal{
			figure: fmt.Sprintf("%s at %s/s", what, thousands(pacedRate)),
			want:   fmt.Sprintf("at most %.0f ms over %s", most, want),
			got:    fmt.Sprintf("%s over: %s against %s", more.ms(), ours.ms(), limit.ms()), met: more.median <= most,
			part: "latency",
		}
	}
	return []goal{
		one("accept latency, median,", "the no-op's", medianGoal, ours.against(limit, above(median, median)), ours.of(median),
			limit.of(median)),
		one("accept latency, p99,", "the no-op's", p99Goal, ours.against(limit, above(p99, p99)), ours.of(p99),
			limit.of(p99)),
		one("time to SUCCESS, p99,", "the accept p99", successGoal, ours.against(ours, above(success, p99)), ours.of(success),
			ours.of(p99)),
	}
}

// above is the difference between a value of one sample and one of the other.
func above(value, otherValue func(sample) float64) func(one, other sample) float64 {
	return func(one, other sample) float64 { return value(one) - otherValue(other) }
}

func (f figure) ms() string { return fmt.Sprintf("%.1f ms (%.1f to %.1f)", f.median, f.low, f.high) }

// load is an open loop of new trades at a rate, and its results.
type load struct {
	plan     *loadtest.Plan
	schedule loadtest.Schedule
	results  *loadtest.Results
}

// newLoad makes a load that begins now.
func (h *harness) newLoad(rate float64, hold time.Duration) *load {
	return &load{h.plan(), loadtest.NewSchedule(0, []loadtest.Stage{{From: rate, To: rate, For: hold}}),
		loadtest.NewResults(time.Now())}
}

// send sends the load and returns after the last answer. connections is a maximum; 0: the default of the generator.
func (l *load) send(ctx context.Context, t target, connections int) error {
	if err := (loadtest.Light{Connections: connections}).Attack(ctx, t.url(), l.plan, l.schedule, l.results); err != nil {
		return fmt.Errorf("cannot send trades to %s: %w", t.name, err)
	}
	return nil
}

func (l *load) findings() loadtest.Findings {
	return loadtest.Analyse(l.schedule, l.plan, l.results, l.schedule.Length())
}
