package loadtest

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Objectives are the limits of a run that have flags. The others are fixed: nothing may be lost, decided twice, left
// undecided or answered wrongly.
type Objectives struct {
	AcceptP99 time.Duration
	FinalP99  time.Duration
	ErrorRate float64 // share of operations
}

const (
	leastAttained = 0.99 // of the rate asked for, or the run is void

	// From these shares of the cores on, CPU is the bottleneck. A process never gets all cores.
	busyProcess = 0.80
	busyMachine = 0.92

	otherCPU = 0.1 // cores: less is normal background work
)

// Judge compares a report with the objectives and fills Objectives, Verdict and Why. A broken promise fails a run that
// is void otherwise: a low rate does not explain a lost trade.
func Judge(r *Report, o Objectives) {
	r.Objectives = []Objective{
		latencyObjective("accept p99", "--max-accept-p99", r.Accept, o.AcceptP99),
		latencyObjective("final status p99", "--max-final-p99", r.Final, o.FinalP99),
		{Name: "error rate", Flag: "--max-error-rate", Limit: "at most " + asShare(o.ErrorRate), Seen: asShare(r.Load.Errors),
			OK: r.Load.Errors <= o.ErrorRate},
		noneAllowed("wrong answers", wrongAnswers(r.Answers)),
		noneAllowed("lost", r.Reconciliation.Lost.Count),
		noneAllowed("doubled", r.Reconciliation.Doubled.Count),
		noneAllowed("stuck", r.Reconciliation.Stuck.Count),
		noneAllowed("wrong ends or contents", r.Reconciliation.Wrong.Count),
	}
	broken := false
	r.Why = nil
	for _, objective := range r.Objectives {
		if !objective.OK {
			r.Why = append(r.Why, fmt.Sprintf("%s: %s, should be %s", objective.Name, objective.Seen, objective.Limit))
			broken = broken || objective.Flag == ""
		}
	}
	missed := len(r.Why) > 0
	r.Objectives = append(r.Objectives, Objective{
		Name: "rate attained", Limit: "at least " + asShare(leastAttained),
		Seen: asShare(r.Load.Attained), OK: r.Load.Attained >= leastAttained,
	})
	var void []string
	if r.Interrupted != "" {
		void = append(void, r.Interrupted)
	}
	if r.Load.Attained < leastAttained {
		void = append(void, fmt.Sprintf("%s of the rate asked for was attained: %s", asShare(r.Load.Attained), tooSlow(r)))
	}
	r.Why = slices.Concat(void, r.Why)
	switch {
	case broken:
		r.Verdict = Fail
	case len(void) > 0:
		r.Verdict = Void
	case missed:
		r.Verdict = Fail
	default:
		r.Verdict = Pass
	}
}

func latencyObjective(name, flag string, l Latency, limit time.Duration) Objective {
	o := Objective{Name: name, Flag: flag, Limit: "at most " + asSeconds(limit.Seconds()), Seen: "nothing to measure"}
	if l.Count > 0 {
		o.Seen = asSeconds(l.P99)
		o.OK = l.P99 <= limit.Seconds()
	}
	return o
}

func noneAllowed(name string, count uint64) Objective {
	return Objective{Name: name, Limit: "0", Seen: strconv.FormatUint(count, 10), OK: count == 0}
}

func wrongAnswers(all []KindAnswers) uint64 {
	count := uint64(0)
	for _, k := range all {
		count += k.Wrong
	}
	return count
}

// tooSlow says why the generator did not attain the rate.
func tooSlow(r *Report) string {
	cores, mine := float64(r.Machine.Cores), float64(r.Load.Cores)
	generator, machine, waiting := seriesNamed(r.Series, generatorCPU), seriesNamed(r.Series, machineCPU),
		seriesNamed(r.Series, inFlight)
	own, _ := generator.mean()
	if all, ok := machine.mean(); ok && all >= busyMachine*cores && own < busyProcess*mine {
		return fmt.Sprintf("the CPU of this machine was the limit, %.1f of %.0f cores were busy (%s)", all, cores,
			usageText(usages(r.Series)))
	}
	switch {
	case own >= busyProcess*mine:
		return fmt.Sprintf("the generator's CPU was the limit, it used %.1f of %.0f cores; --generator light needs "+
			"less, another machine has more", own, mine)
	case r.Load.Connections > 0 && waiting.highest() >= 0.99*float64(r.Load.Connections):
		return fmt.Sprintf("all %d connections (--connections) waited for answers: at this rate the target answers too "+
			"slowly, or they are too few", r.Load.Connections)
	}
	return fmt.Sprintf("the generator was late by %s for 1 operation in 100, though it used %.1f of %.0f cores; "+
		"was the machine asleep or short of memory?",
		asSeconds(r.Load.DelayP99), own, mine)
}

// usages returns the mean CPU of each measured process, the largest first, and the rest of the machine as "others".
func usages(all []Series) []Usage {
	var list []Usage
	others := 0.0
	for _, s := range all {
		name, ok := strings.CutSuffix(s.Name, " CPU")
		switch mean, known := s.mean(); {
		case !ok || !known:
		case s.Name == machineCPU:
			others += mean
		default:
			others -= mean
			list = append(list, Usage{Name: name, Cores: mean})
		}
	}
	if others > otherCPU { // below 0 if some of the processes are on other machines
		list = append(list, Usage{Name: "others", Cores: others})
	}
	slices.SortStableFunc(list, func(a, b Usage) int { return cmp.Compare(b.Cores, a.Cores) })
	return list
}

func usageText(list []Usage) string {
	parts := make([]string, len(list))
	for i, u := range list {
		parts[i] = fmt.Sprintf("%s %.2f", u.Name, u.Cores)
	}
	return strings.Join(parts, ", ")
}
