package main

import (
	"bytes"
	"fmt"
)

// A goal is one figure that the product is held to, and what was measured.
type goal struct {
	figure string // what is measured
	want   string // "at least 0.50 x fasthttp, no-op"
	got    string // the ratio or figure with its spread, and the absolute figures behind it, for people
	met    bool
	part   string // of the run, that measures it
}

// addGoal puts a goal into the table, in the order of the calls.
func (r *results) addGoal(g goal) { r.goals = append(r.goals, g) }

// atLeast is the goal that the median of a value is so many times the rate of the limit in the same rounds.
func atLeast(want float64, name string, ours, limit *series, value func(sample) float64, part string) goal {
	ratio := ours.over(limit, value)
	return goal{figure: name, want: fmt.Sprintf("at least %.2f x %s", want, limit.name), met: ratio.median >= want,
		got:  fmt.Sprintf("%s: %s/s against %s/s", ratio.ratio(), ours.of(value).perSecond(""), limit.of(rate).perSecond("")),
		part: part}
}

// command measures one part alone, as it was measured.
func (r *results) command(part string) string { return "go run ./bench -only " + part + r.flags }

// writeGoals shows what was measured of the goals. Each row tells when, since a run may measure a single one.
func (r *results) writeGoals(b *bytes.Buffer) {
	fmt.Fprintf(b, "%sGoals\n\nWhat the product is held to. A ratio compares what was measured in the same rounds.\n\n"+
		"| Figure | Goal | Measured | Met | Command | When |\n|---|---|---|---|---|---|\n", heading)
	for _, g := range r.goals {
		met := "**no**"
		if g.met {
			met = "yes"
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | `%s` | %s |\n", g.figure, g.want, g.got, met, r.command(g.part), r.when())
	}
}

// writeScaling shows how rates change with what is varied.
func (r *results) writeScaling(b *bytes.Buffer) {
	fmt.Fprintf(b, "%sScaling\n\nOne thing is varied at a time. A drain is of a topic that was filled before, into empty tables if not said otherwise; "+
		"trades are accepted\nby a server alone, without a worker. `%s`, %s.\n\n![Rates by what is varied](scaling.svg)\n\n"+
		"| Varied | Setting | per second | times nothing varied |\n|---|---|---:|---:|\n", heading, r.command("scaling"), r.when())
	for i, w := range r.scaling {
		title := w.stage
		if i > 0 && r.scaling[i-1].stage == title {
			title = ""
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", title, w.name, w.rate.perSecond(w.unit), w.ratio.ratio())
	}
}

// when names the day and the source.
func (r *results) when() string {
	var day, source string
	for _, f := range r.facts {
		switch f.name {
		case "date":
			day = f.value
		case "commit":
			source = f.value
		}
	}
	return day + ", " + source
}
