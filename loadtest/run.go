package loadtest

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"time"
)

// Run sends the load of cfg and checks the outcomes. It returns when everything accepted is decided, or the wait for
// that is over. When ctx ends the load ends early, but Run still waits and compares, and the report says so. Errors:
// there was no run, for example because the target is not ready.
func Run(ctx context.Context, cfg Config, env Env) (*Report, *Results, error) {
	s, err := prepare(ctx, cfg, env)
	if err != nil {
		return nil, nil, err
	}
	defer s.close()
	a, err := s.attack(ctx, s.schedule(), s.generator(s.schedule().Max()))
	if err != nil {
		return nil, nil, err
	}
	series := s.monitor.Stop()
	r := s.report(a)
	r.Series = shifted(series, -a.offset)
	Judge(r, s.objectives())
	return r, a.results, nil
}

// attack is one load and its reconciliation.
type attack struct {
	generator   Generator
	schedule    Schedule
	plan        *Plan
	results     *Results
	offset      float64       // seconds from the start of the session to that of the attack
	until       time.Duration // end of the load: that of the schedule, unless it was interrupted
	interrupted string        // the reason; empty: it was not
	finals      []Finality
	missed      uint64 // samples that were not followed
	proof       Reconciliation
	unproven    error // why the comparison is not complete
}

// attack sends the schedule, follows a sample, waits for all outcomes and compares.
func (s *session) attack(ctx context.Context, schedule Schedule, generator Generator) (*attack, error) {
	a := &attack{generator: generator, schedule: schedule, until: schedule.Length()}
	a.plan = NewPlan(s.run, s.seed, s.mix, max(1, uint64(referBack.Seconds()*schedule.Max())), s.used)
	s.used += schedule.Total()

	a.results = NewResults(time.Now())
	a.offset = a.results.Began().Sub(s.began).Seconds()
	alive, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	loading, stop := context.WithCancel(alive)
	defer stop()
	var cut atomic.Int64 // when the load was interrupted; 0: it was not
	cutOff := func() { cut.CompareAndSwap(0, int64(a.results.Now())); stop() }
	defer context.AfterFunc(ctx, cutOff)()
	defer s.watch(func() { cutOff(); end() })() // without the stack there are no answers

	s.current.Store(a.results)
	show := s.progress.Phase(func() string { return s.liveLine(a) })
	follower := Follow(alive, s.api, a.plan, a.results, s.cfg.Follow)
	err := generator.Attack(loading, s.target, a.plan, schedule, a.results)
	show()
	at := time.Duration(cut.Load())
	if at == 0 && err != nil {
		_, _ = follower.Wait(0)
		return nil, fmt.Errorf("cannot send the load: %w", err)
	}
	if at > 0 {
		a.until = min(a.until, at)
		a.interrupted = fmt.Sprintf("the load was interrupted after %s of %s", asTook(a.until.Seconds()),
			asTook(schedule.Length().Seconds()))
		if why := s.stackEnded(); why != "" {
			a.interrupted += ": " + why
		}
	}
	s.prove(alive, a, follower)
	return a, nil
}

// prove waits for outcomes and compares. What could not be compared counts as stuck.
func (s *session) prove(ctx context.Context, a *attack, follower *Follower) {
	var done, total atomic.Uint64
	defer s.progress.Phase(func() string {
		if total.Load() == 0 {
			return "drain     waiting until everything accepted is decided" + s.lagText()
		}
		return fmt.Sprintf("compare   %s of %s", asCount(done.Load()), asCount(total.Load()))
	})()
	began := time.Now()
	a.finals, a.missed = follower.Wait(s.cfg.DrainTimeout)
	waited := time.Since(began)
	a.proof, a.unproven = Reconcile(ctx, s.api, s.database, a.plan, a.results, ReconcileConfig{
		Wait: max(s.cfg.DrainTimeout-waited, time.Second), Seen: a.finals,
		Progress: func(d, t uint64) { done.Store(d); total.Store(t) },
	})
	a.proof.Drain += waited.Seconds()
	if a.unproven != nil {
		a.proof.Stuck.Count = max(a.proof.Stuck.Count, a.proof.Accepted)
		a.proof.Stuck.First = append([]string{"nothing is known of them: " + a.unproven.Error()}, a.proof.Stuck.First...)
	}
}

// report makes the report of one attack, with times from its start. It is not judged yet.
func (s *session) report(a *attack) *Report {
	found := Analyse(a.schedule, a.plan, a.results, a.until)
	_, warmup := a.schedule.Warm()
	found.Load.Generator, found.Load.Warmup = a.generator.Name(), warmup.Seconds()
	found.Load.Connections, found.Load.Cores = s.cfg.Connections, runtime.GOMAXPROCS(0)
	under := shifted(s.monitor.Between(a.offset+warmup.Seconds(), a.offset+a.until.Seconds()), -a.offset)
	cpu := seriesNamed(under, generatorCPU)
	found.Load.CPU, _ = cpu.mean()
	host, _ := os.Hostname() // optional
	r := &Report{
		Schema: 1, Run: s.run, Seed: s.seed, Started: s.began.UTC(), Took: time.Since(s.began).Seconds(),
		Target: s.cfg.Target, Stack: s.deployment,
		Machine:  Machine{Host: host, CPU: processorName(), Cores: runtime.NumCPU(), OS: runtime.GOOS + " " + runtime.GOARCH},
		Build:    s.env.Build,
		Settings: s.env.Settings, Load: found.Load, Answers: found.Answers, Accept: found.Accept, Sent: found.Sent,
		Final: s.finality(a), Reconciliation: a.proof, Timeline: found.Timeline, Series: under, Interrupted: a.interrupted,
		Notes: slices.Concat(s.notes, s.monitor.Failures()),
	}
	r.Build.Server = s.server
	return r
}

// finality describes the times to the outcome, without the warm-up.
func (s *session) finality(a *attack) Latency {
	warm, _ := a.schedule.Warm()
	var took []time.Duration
	for _, f := range a.finals {
		if f.Seq >= warm {
			took = append(took, f.Final)
		}
	}
	l := Describe(took)
	l.Missed = a.missed
	return l
}

func (s *session) objectives() Objectives {
	return Objectives{AcceptP99: s.cfg.MaxAcceptP99, FinalP99: s.cfg.MaxFinalP99, ErrorRate: s.cfg.MaxErrorRate}
}

// generator returns the generator for a rate, in operations per second.
func (s *session) generator(rate float64) Generator {
	if s.cfg.Generator == withLight || s.cfg.Generator == auto && rate >= lightFrom {
		return Light{Connections: s.cfg.Connections}
	}
	return Vegeta{MaxWorkers: uint64(s.cfg.Connections)}
}

// shifted returns the series with times moved by so many seconds.
func shifted(all []Series, by float64) []Series {
	moved := make([]Series, len(all))
	for i, one := range all {
		moved[i] = one
		moved[i].Points = slices.Clone(one.Points)
		for j := range moved[i].Points {
			moved[i].Points[j].At += by
		}
	}
	return moved
}
