package main

import (
	"bytes"
	"fmt"
)

// goal is a target value for the product and the measured value.
type goal struct {
	figure string // what is measured
	want   string // "at least 0.50 x fasthttp, no-op"
	got    string // the ratio or figure with its spread, and the absolute figures
	met    bool
	part   string // name of the part that measures it
}

// addGoal appends a goal to the table.
func (r *results) addGoal(g goal) { r.goals = append(r.goals, g) }

// atLeast is the goal that a value is at least want times the rate of the limit in the same rounds, by median.
func atLeast(want float64, name string, ours, limit *series, value func(sample) float64, part string) goal {
	ratio := ours.over(limit, value)
	return goal{figure: name, want: fmt.Sprintf("at least %.2f x %s", want, limit.name), met: ratio.median >= want,
		got:  fmt.Sprintf("%s: %s/s against %s/s", ratio.ratio(), ours.of(value).perSecond(""), limit.of(rate).perSecond("")),
		part: part}
}

// command is the command that measures one part alone, with the same flags.
func (r *results) command(part string) string { return "go run ./bench -only " + part + r.flags }

// writeGoals writes the table of goals. Each row has its date, because a run may measure a single goal.
func (r *results) writeGoals(b *bytes.Buffer) {
	fmt.Fprintf(b, "%sGoals\n\nTargets of the product. A ratio compares figures of the same rounds.\n\n"+
		"| Figure | Goal | Measured | Met | Command | When |\n|---|---|---|---|---|---|\n", heading)
	for _, g := range r.goals {
		met := "**no**"
		if g.met {
			met = "yes"
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | `%s` | %s |\n", g.figure, g.want, g.got, met, r.command(g.part), r.when())
	}
}

// writeScaling writes how rates change with each setting.
func (r *results) writeScaling(b *bytes.Buffer) {
	fmt.Fprintf(b, "%sScaling\n\nOne setting is varied at a time. A drain reads a filled topic into tables that are "+
		"empty unless the row says otherwise. "+
		"A server\nalone, without a worker, accepts trades. `%s`, %s.\n\n![Rates by what is varied](scaling.svg)\n\n"+
		"| Varied | Setting | per second | times nothing varied |\n|---|---|---:|---:|\n", heading, r.command("scaling"),
		r.when())
	for i, w := range r.scaling {
		title := w.stage
		if i > 0 && r.scaling[i-1].stage == title {
			title = ""
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", title, w.name, w.rate.perSecond(w.unit), w.ratio.ratio())
	}
}

// when is the date and the commit.
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
