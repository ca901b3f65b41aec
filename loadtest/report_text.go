package loadtest

import (
	"cmp"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Title is the load in a few words, or the result of a capacity search.
func (r *Report) Title() string {
	if c := r.Capacity; c != nil {
		return "capacity " + asNumber(c.Knee) + "/s"
	}
	return cmp.Or(describeSchedule(r.Load.Schedule), "nothing was sent")
}

// describeSchedule describes a schedule like "1000/30s,1000..2000/1m" in words.
func describeSchedule(schedule string) string {
	stages := strings.Split(schedule, ",")
	for i, stage := range stages {
		rate, length, ok := strings.Cut(stage, "/")
		if !ok {
			continue
		}
		from, to, ramp := strings.Cut(rate, "..")
		stages[i] = rounded(from) + "/s for " + length
		if ramp {
			stages[i] = rounded(from) + " to " + rounded(to) + "/s for " + length
		}
	}
	return strings.Join(stages, ", then ")
}

// rounded formats a rate of a schedule like other figures.
func rounded(rate string) string {
	v, err := strconv.ParseFloat(rate, 64)
	if err != nil {
		return rate
	}
	return asNumber(v)
}

// Line is the run in one line of Markdown, for a pull request.
func (r *Report) Line() string {
	parts := []string{"sent " + asNumber(r.Load.Rate) + "/s", "accepted " + asNumber(r.Load.Accepted) + "/s"}
	if c := r.Capacity; c != nil && c.Saturated != "" {
		parts = slices.Insert(parts, 0, "saturated first: "+markdown(c.Saturated))
	}
	if r.Accept.Count > 0 {
		parts = append(parts, "accept p50 "+asSeconds(r.Accept.P50)+", p99 "+asSeconds(r.Accept.P99))
	}
	if r.Final.Count > 0 {
		parts = append(parts, "final p99 "+asSeconds(r.Final.P99))
	}
	parts = append(parts, "errors "+asShare(r.Load.Errors))
	if rec := &r.Reconciliation; rec.By != "" {
		parts = append(parts, fmt.Sprintf("lost %s, doubled %s, stuck %s, wrong %s of %s", asCount(rec.Lost.Count),
			asCount(rec.Doubled.Count),
			asCount(rec.Stuck.Count), asCount(rec.Wrong.Count), asCount(rec.Accepted)))
	} else {
		parts = append(parts, "not reconciled")
	}
	text := fmt.Sprintf("**%s** %s: %s", markdown(r.Verdict), markdown(r.Title()), strings.Join(parts, "; "))
	for _, about := range []string{r.Load.Generator, r.Stack, r.Machine.Text(), r.Build.id()} {
		if about != "" {
			text += " · " + markdown(about)
		}
	}
	return text
}

// Text is the machine in a few words.
func (m *Machine) Text() string {
	if m.Cores == 0 {
		return ""
	}
	return strings.TrimPrefix(fmt.Sprintf("%s, %s, %s", m.CPU, plural(uint64(m.Cores), "core", "cores"), m.OS), ", ")
}

// id is the commit, or the version if the commit is not known.
func (b *Build) id() string {
	if b.Commit == "" || b.Commit == "unknown" {
		return b.Version
	}
	return fmt.Sprintf("%.12s", b.Commit)
}

// Command is the command that repeats the run: the same operations in the same order.
func (r *Report) Command() string {
	words := []string{"tradestore", "loadtest"}
	seeded := false
	for _, s := range r.Settings {
		name := strings.TrimLeft(s.Name, "-")
		seeded = seeded || name == "seed"
		switch {
		case name == "seed":
			words = append(words, fmt.Sprintf("--seed=%d", r.Seed))
		case s.Value != "" && s.Value != "false":
			words = append(words, shell(plain("--"+name+"="+s.Value)))
		}
	}
	if !seeded {
		words = append(words, fmt.Sprintf("--seed=%d", r.Seed))
	}
	return strings.Join(words, " ")
}

// paint says whether text gets terminal colours.
type paint bool

func (p paint) code(code, text string) string {
	if !p || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p paint) bold(text string) string  { return p.code("1", text) }
func (p paint) faint(text string) string { return p.code("2", text) }

// passFail is text in green or red.
func (p paint) passFail(ok bool, text string) string {
	if ok {
		return p.code("32", text)
	}
	return p.code("1;31", text)
}

// Print writes the report for a terminal. Text from a server cannot move the cursor.
func (r *Report) Print(w io.Writer, colour bool) {
	p := paint(colour)
	fmt.Fprintf(w, "\n%s  %s\n", p.verdict(r.Verdict), p.bold(plain(r.Title())))
	fmt.Fprintf(w, "%s\n", p.faint("      "+plain(strings.TrimSpace(r.Target+"  "+r.Stack))))
	for _, why := range r.Why {
		fmt.Fprintf(w, "      %s\n", plain(why))
	}
	for _, note := range r.Notes {
		fmt.Fprintf(w, "      %s\n", p.faint("note: "+plain(note)))
	}
	if r.Capacity != nil {
		r.Capacity.print(w, p)
	}
	l := &r.Load
	fmt.Fprintf(w, "\n%s\n", p.bold("Load"))
	fmt.Fprintf(w, "  %s due, %s sent at %s/s (%s), %s/s accepted, %s errors\n", asCount(l.Asked), asCount(l.Sent),
		asNumber(l.Rate), asShare(l.Attained), asNumber(l.Accepted), asShare(l.Errors))
	fmt.Fprintf(w, "  the generator used %s cores and was late by %s at its p99\n", asNumber(l.CPU), asSeconds(l.DelayP99))
	r.printLatencies(w, p)
	r.printAnswers(w, p)
	r.printObjectives(w, p)
	r.Reconciliation.print(w, p)
	if r.Folder != "" {
		fmt.Fprintf(w, "\n%s\n  %s\n", p.bold("Report"), plain(filepath.Join(r.Folder, pageFile)))
	}
	fmt.Fprintf(w, "\n%s\n  %s\n", p.bold("For a pull request"), r.Line())
	fmt.Fprintf(w, "\n%s\n  %s\n", p.bold("Again"), r.Command())
}

func (p paint) verdict(v string) string {
	switch v {
	case Pass:
		return p.code("1;32", v)
	case Void:
		return p.code("1;33", v)
	default:
		return p.code("1;31", plain(v))
	}
}

func (r *Report) printLatencies(w io.Writer, p paint) {
	t := table{head: []string{"Latency", "count", "p50", "p90", "p99", "p99.9", "max"}, right: 1}
	for _, l := range r.latencies() {
		row := []string{l.Name, asCount(l.Count)}
		if l.Count > 0 {
			row = append(row, asSeconds(l.P50), asSeconds(l.P90), asSeconds(l.P99), asSeconds(l.P999), asSeconds(l.Max))
		}
		t.add(nil, row...)
	}
	t.print(w, p)
}

func (r *Report) printAnswers(w io.Writer, p paint) {
	t := table{head: []string{"Answers", "sent", "wrong", ""}, right: 1, left: 3}
	for _, k := range r.Answers {
		var texts []string
		for _, a := range mostFrequent(k) {
			texts = append(texts, a.Name+": "+asCount(a.Count))
		}
		var tint func(string) string
		if k.Wrong > 0 {
			tint = func(s string) string { return p.passFail(false, s) }
		}
		t.add(tint, k.Kind, asCount(k.Sent), asCount(k.Wrong), strings.Join(texts, ", "))
	}
	t.print(w, p)
}

func (r *Report) printObjectives(w io.Writer, p paint) {
	t := table{head: []string{"Objectives", "seen", "limit", ""}, right: 1, left: 3}
	for _, o := range r.Objectives {
		mark := "✗ "
		if o.OK {
			mark = "✓ "
		}
		t.add(func(s string) string { return p.passFail(o.OK, s) }, mark+o.Name, o.Seen, o.Limit, o.Flag)
	}
	t.print(w, p)
}

func (rec *Reconciliation) print(w io.Writer, p paint) {
	if rec.By == "" {
		fmt.Fprintf(w, "\n%s\n  nothing was compared\n", p.bold("Reconciliation"))
		return
	}
	fmt.Fprintf(w, "\n%s %s\n", p.bold("Reconciliation"), p.faint("by "+plain(rec.By)))
	fmt.Fprintf(w, "  %s accepted with the warm-up: %s SUCCESS, %s FAILED after a higher version; %s may exist; %s "+
		"compared; drained in %s, checked in %s\n",
		asCount(rec.Accepted), asCount(rec.Success), asCount(rec.Failed), plural(rec.MayExist, "operation", "operations"),
		plural(rec.Rows, "row", "rows"), asTook(rec.Drain), asTook(rec.Took))
	for _, o := range rec.violations() {
		fmt.Fprintf(w, "  %s\n", p.passFail(o.Count == 0, fmt.Sprintf("%-8s %s", o.Name, asCount(o.Count))))
		for _, first := range o.First {
			fmt.Fprintf(w, "           %s\n", plain(first))
		}
	}
}

func (c *Capacity) print(w io.Writer, p paint) {
	fmt.Fprintf(w, "\n%s %s/s sustained", p.bold("Capacity"), asNumber(c.Knee))
	if c.Beyond > 0 {
		fmt.Fprintf(w, ", %s/s not", asNumber(c.Beyond))
	}
	fmt.Fprintln(w)
	if c.Saturated != "" {
		fmt.Fprintf(w, "  saturated first: %s\n", plain(c.Saturated))
	}
	if o := c.Overload; o.Rate > 0 {
		recovery := "recovered in " + asTook(o.Recovery)
		if o.Recovery < 0 {
			recovery = "not recovered within the wait"
		}
		fmt.Fprintf(w, "  at %s/s: %s shed, %s/s accepted, %s\n", asNumber(o.Rate), asShare(o.Shed), asNumber(o.Goodput),
			recovery)
	}
	t := table{head: []string{"Steps", "accepted", "accept p99", "final p99", "lag grows", "lost", ""}, right: 1, left: 6}
	for _, s := range c.Steps {
		mark := "✗ "
		if s.Sustained {
			mark = "✓ "
		}
		t.add(func(text string) string {
			return p.passFail(s.Sustained, text)
		}, mark+asNumber(s.Rate)+"/s", asNumber(s.Accepted)+"/s", asSeconds(s.AcceptP99),
			asSeconds(s.FinalP99), asNumber(s.LagGrowth)+"/s", asCount(s.Lost), strings.Join(s.Why, "; "))
	}
	t.print(w, p)
}
