package loadtest

import (
	"fmt"
	"runtime"
	"strings"
)

// saturated names the first bottleneck, with the figures that show it.
func (c *capacitySearch) saturated(beyond float64) string {
	if beyond == 0 || len(c.measured) == 0 {
		return "nothing: every rate that was tried was sustained"
	}
	low := c.measured[0]
	var at measuredStep // the lowest rate that was not sustained
	for _, f := range c.measured {
		if f.Rate < low.Rate {
			low = f
		}
		if !f.Sustained && f.Rate == beyond {
			at = f
		}
	}
	return explain(low, at, float64(runtime.NumCPU()), float64(runtime.GOMAXPROCS(0)))
}

// explain names the bottleneck between a low rate and one that was not sustained. mine is how many of the cores the
// generator may use.
func explain(low, at measuredStep, cores, mine float64) string {
	used := "CPU at " + asNumber(at.Rate) + "/s: " + usageText(at.CPU)
	generator := 0.0
	for _, u := range at.CPU {
		if u.Name == "generator" {
			generator = u.Cores
		}
	}
	machine := fmt.Sprintf("%.2f of %.0f cores of this machine were busy", at.machine, cores)
	switch {
	case at.Attained < leastAttained && generator >= busyProcess*mine:
		return fmt.Sprintf("the generator (%s): it used %.2f of %.0f cores and attained %s of %s/s, so the target may "+
			"do more; measure from another machine",
			at.generator, generator, mine, asShare(at.Attained), asNumber(at.Rate))
	case at.machine >= busyMachine*cores && generator > 0.1*cores:
		return "CPU of this machine, which the generator shares: " + machine + "; " + used
	case at.machine >= busyMachine*cores:
		return "CPU of this machine: " + machine + "; " + used
	case at.Attained < leastAttained:
		return fmt.Sprintf("the connections of the generator (%s): it attained %s of %s/s with CPU to spare; %s",
			at.generator, asShare(at.Attained), asNumber(at.Rate), used)
	case at.LagGrowth > lagGrowing*at.Rate:
		return fmt.Sprintf("applying: the lag grew by %s records per second at %s/s%s; %s", asNumber(at.LagGrowth),
			asNumber(at.Rate), slower(low, at, "apply transaction"), used)
	}
	if stage, ok := slowestStage(low, at); ok {
		return stage + slower(low, at, stage) + "; " + used
	}
	for _, u := range at.CPU {
		if u.Cores >= busyProcess*cores {
			return "CPU of " + u.Name + "; " + used
		}
	}
	return "not known: " + strings.Join(at.Why, "; ") + "; " + used
}

// slowestStage is the stage whose time grew most. The queue wait counts only if no other stage grew: it follows from
// them.
func slowestStage(low, at measuredStep) (stage string, ok bool) {
	most := 0.005 // seconds: less is noise
	for _, name := range []string{"version look-up", "request store", "Kafka produce", "apply transaction"} {
		if grew := at.stages[name] - low.stages[name]; grew > most {
			stage, most = name, grew
		}
	}
	if stage == "" && at.stages["queue wait"]-low.stages["queue wait"] > most {
		stage = "queue wait"
	}
	return stage, stage != ""
}

// slower describes the time of a stage at both rates, if it was measured.
func slower(low, at measuredStep, stage string) string {
	if at.stages[stage] == 0 {
		return ""
	}
	return fmt.Sprintf(": %s on average at %s/s, %s at %s/s", asSeconds(low.stages[stage]), asNumber(low.Rate),
		asSeconds(at.stages[stage]), asNumber(at.Rate))
}
