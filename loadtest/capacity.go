package loadtest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"
)

const (
	overloadBy = 2.0 // times the knee
	recoverAt  = 0.5 // times the knee
	recoverFor = 2   // steps
	steadyFor  = 3   // seconds in which all objectives must hold before a recovery counts
	lagNoise   = 3   // standard errors: a smaller slope is noise
	lagGrowing = 0.01
	lowestKnee = 1.0 // operations per second
	noRecovery = -1.0
)

// FindCapacity finds the highest rate that the target sustains, the first bottleneck, and the behaviour above that
// rate. A rate is sustained if all objectives hold and the lag does not grow. The report is that of the highest
// sustained rate, with reconciliation, answers and charts of all steps. When ctx ends it reports what was measured so
// far. Errors: as for Run.
func FindCapacity(ctx context.Context, cfg Config, env Env) (*Report, *Results, error) {
	s, err := prepare(ctx, cfg, env)
	if err != nil {
		return nil, nil, err
	}
	defer s.close()
	c := &capacitySearch{session: s}
	knee, beyond, err := search(cfg.Rate, lowestKnee, fastest, func(rate float64) (bool, error) {
		return c.try(ctx, rate)
	})
	if err == nil && knee > 0 {
		err = c.overload(ctx, knee)
	}
	if err != nil && !errors.Is(err, errInterrupted) {
		return nil, nil, err
	}
	if c.report == nil {
		return nil, nil, fmt.Errorf("nothing was measured: %w", err)
	}
	c.result.Knee, c.result.Beyond = knee, beyond
	c.result.Saturated = c.saturated(beyond)
	return c.conclude(), c.results, nil
}

// errInterrupted ends a search whose run was interrupted.
var errInterrupted = errors.New("the search was interrupted")

// capacitySearch is the state of FindCapacity.
type capacitySearch struct {
	*session
	result      Capacity
	measured    []measuredStep // of each step
	light       bool           // vegeta was too slow
	report      *Report        // of the highest rate sustained, or of the last one tried if none was
	results     *Results
	sustained   bool // report is of a rate that was sustained
	interrupted string
	proof       Reconciliation // of all steps
	answers     []KindAnswers  // of all steps
	timeline    []Second       // of all steps
}

// measuredStep is a step and what was measured beside it.
type measuredStep struct {
	Step
	generator string
	machine   float64            // cores that were busy
	stages    map[string]float64 // mean seconds
}

// try sends a rate and says whether it is sustained. If vegeta cannot attain the rate, the light generator replaces it.
func (c *capacitySearch) try(ctx context.Context, rate float64) (sustained bool, err error) {
	schedule := NewSchedule(c.cfg.Warmup, []Stage{{rate, rate, c.cfg.StepDuration}})
	a, r, err := c.measure(ctx, schedule)
	if err != nil {
		return false, err
	}
	if r.Load.Attained < leastAttained && r.Load.Generator == withVegeta && c.cfg.Generator == auto {
		c.progress.Say("vegeta attained %s of %s/s: switching to the light generator", asShare(r.Load.Attained),
			asNumber(rate))
		c.light = true
		if a, r, err = c.measure(ctx, schedule); err != nil {
			return false, err
		}
	}
	step := c.judge(rate, a, r)
	if better := c.report == nil || step.Sustained && (!c.sustained || rate > c.report.Load.Rate); better || !c.sustained {
		c.report, c.results, c.sustained = r, a.results, step.Sustained
	}
	mark, why := "sustained", ""
	if !step.Sustained {
		mark, why = "not sustained", ": "+step.Why[0]
	}
	c.progress.Say("%s/s %s%s (accept p99 %s, final p99 %s)", asNumber(rate), mark, why, asSeconds(step.AcceptP99),
		asSeconds(step.FinalP99))
	return step.Sustained, nil
}

// measure runs an attack and adds it to the totals.
func (c *capacitySearch) measure(ctx context.Context, schedule Schedule) (*attack, *Report, error) {
	generator := c.generator(schedule.Max())
	if c.light {
		generator = Light{Connections: c.cfg.Connections}
	}
	a, err := c.attack(ctx, schedule, generator)
	if err != nil {
		return nil, nil, err
	}
	r := c.session.report(a)
	c.add(a, r)
	if a.interrupted != "" {
		c.interrupted = a.interrupted
		if c.report == nil {
			c.report, c.results = r, a.results
		}
		return nil, nil, errInterrupted
	}
	return a, r, nil
}

// judge decides whether a step was sustained, and records it.
func (c *capacitySearch) judge(rate float64, a *attack, r *Report) *Step {
	Judge(r, c.objectives())
	_, warmup := a.schedule.Warm()
	half := a.offset + (warmup + c.cfg.StepDuration/2).Seconds()
	grows, noise := growth(lagOf(c.monitor.Between(half, a.offset+a.until.Seconds())).Points)
	step := Step{
		Rate: rate, Sustained: r.Verdict == Pass, Why: r.Why, Accepted: r.Load.Accepted, AcceptP99: r.Accept.P99,
		FinalP99:  r.Final.P99,
		LagGrowth: grows, Lost: a.proof.Lost.Count, CPU: usages(r.Series), Attained: r.Load.Attained,
		DrainedTook: a.proof.Drain,
	}
	if grows > max(lagNoise*noise, lagGrowing*rate) {
		step.Sustained = false
		step.Why = append(step.Why, fmt.Sprintf("the lag grew by %s records per second", asNumber(grows)))
	}
	f := measuredStep{Step: step, generator: a.generator.Name(), stages: map[string]float64{}}
	for _, one := range r.Series {
		mean, _ := one.mean()
		switch {
		case one.Name == machineCPU:
			f.machine = mean
		case one.Group == groupStages:
			f.stages[one.Name] = mean
		}
	}
	c.measured = append(c.measured, f)
	c.result.Steps = append(c.result.Steps, step)
	return &step
}

// lagOf returns the lag as measured from outside, or else by the worker.
func lagOf(all []Series) Series {
	if seen := seriesNamed(all, lagSeries); len(seen.Points) > 0 {
		return seen
	}
	return seriesNamed(all, workerLag)
}

// add adds an attack to the totals.
func (c *capacitySearch) add(a *attack, r *Report) {
	for _, second := range r.Timeline {
		second.At += a.offset
		c.timeline = append(c.timeline, second)
	}
	for _, k := range r.Answers {
		i := slices.IndexFunc(c.answers, func(have KindAnswers) bool { return have.Kind == k.Kind })
		if i < 0 {
			i = len(c.answers)
			c.answers = append(c.answers, KindAnswers{Kind: k.Kind, Counts: map[string]uint64{}})
		}
		c.answers[i].Sent += k.Sent
		c.answers[i].Wrong += k.Wrong
		for name, count := range k.Counts {
			c.answers[i].Counts[name] += count
		}
	}
	sum, p := &c.proof, &a.proof
	sum.By = p.By
	sum.Accepted += p.Accepted
	sum.Success += p.Success
	sum.Failed += p.Failed
	sum.MayExist += p.MayExist
	sum.Rows += p.Rows
	sum.Drain = max(sum.Drain, p.Drain)
	sum.Took += p.Took
	for _, pair := range [][2]*Offenders{{&sum.Lost, &p.Lost}, {&sum.Doubled, &p.Doubled}, {&sum.Stuck, &p.Stuck},
		{&sum.Wrong, &p.Wrong}} {
		pair[0].Count += pair[1].Count
		pair[0].First = append(pair[0].First, pair[1].First...)
		pair[0].First = pair[0].First[:min(len(pair[0].First), namedOffenders)]
	}
}

// overload sends a multiple of the knee, then half of the knee. It measures shedding and the time until recovery.
func (c *capacitySearch) overload(ctx context.Context, knee float64) error {
	rate := min(overloadBy*knee, fastest)
	c.progress.Say("beyond the knee: %s/s, then %s/s", asNumber(rate), asNumber(recoverAt*knee))
	a, r, err := c.measure(ctx, NewSchedule(c.cfg.Warmup, []Stage{
		{rate, rate, c.cfg.StepDuration}, {recoverAt * knee, recoverAt * knee, recoverFor * c.cfg.StepDuration},
	}))
	if err != nil {
		return err
	}
	_, warmup := a.schedule.Warm()
	end := warmup + c.cfg.StepDuration
	var due, sent, shed, accepted float64
	for result := range a.results.All() {
		if result.Due >= warmup && result.Due < end {
			due++
			if result.Status == http.StatusServiceUnavailable || result.Status == http.StatusTooManyRequests {
				shed++
			}
		}
		if result.Sent >= warmup && result.Sent < end {
			sent++
		}
		if result.Status == http.StatusAccepted && result.Done >= warmup && result.Done < end {
			accepted++
		}
	}
	held := c.cfg.StepDuration.Seconds()
	lag := lagOf(shifted(c.monitor.Between(a.offset, math.Inf(1)), -a.offset))
	c.result.Overload = Overload{
		Rate: sent / held, Goodput: accepted / held, Shed: shed / max(due, 1),
		Recovery: c.recovery(r.Timeline, lag.Points, end, recoverAt*knee),
	}
	return nil
}

// recovery returns after how many seconds from end the objectives hold again for steadyFor seconds; -1 if they do not.
func (c *capacitySearch) recovery(timeline []Second, lag []Sample, end time.Duration, rate float64) float64 {
	behind := rate * c.cfg.MaxFinalP99.Seconds() // a larger lag is not decided in time
	well := 0
	for _, second := range timeline {
		if second.At < end.Seconds() {
			continue
		}
		well++
		if second.P99 > c.cfg.MaxAcceptP99.Seconds() || second.Errors > c.cfg.MaxErrorRate*second.Asked {
			well = 0
		}
		for _, l := range lag {
			if l.At >= second.At && l.At < second.At+1 && l.Value > behind {
				well = 0
			}
		}
		if well == steadyFor {
			return max(0, second.At+1-steadyFor-end.Seconds())
		}
	}
	return noRecovery
}

// conclude makes the report of the search from that of its best step.
func (c *capacitySearch) conclude() *Report {
	r := c.report
	r.Reconciliation, r.Answers, r.Interrupted = c.proof, c.answers, c.interrupted
	Judge(r, c.objectives())
	r.Timeline, r.Series = c.timeline, c.monitor.Stop()
	r.Took = time.Since(c.began).Seconds()
	r.Notes = slices.Concat(c.notes, c.monitor.Failures())
	r.Capacity = &c.result
	return r
}
