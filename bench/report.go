package main

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// row is one comparison of the stage table.
type row struct {
	stage     string
	unit      string
	limit     string
	limitRate figure
	name      string
	rate      figure
	ratio     figure // of the limit
	chart     bool   // it is drawn as well
}

// results are the results of all parts.
type results struct {
	flags    string // given to the run: " -hold 20s"
	facts    []fact
	rows     []row
	replaced *stage // the chain with stores replaced in turn
	stacks   *stage
	goals    []goal
	scaling  []row    // the stage is the varied setting
	notes    []string // what was left out, and the reason
}

// add adds every series of the stages to the table.
func (r *results) add(stages ...stage) {
	for _, s := range stages {
		for _, one := range s.ours {
			r.rows = append(r.rows, s.row(one, one.name, rate, !one.aside))
		}
	}
}

func (s stage) row(one *series, name string, value func(sample) float64, chart bool) row {
	return row{s.title, s.unit, s.limit.name, s.limit.of(rate), name, one.of(value), one.over(s.limit, value), chart}
}

// addReplaced adds the accept path alone to the table; the others are compared with the whole chain.
func (r *results) addReplaced(s stage) {
	r.replaced = &s
	alone := s.ours[len(s.ours)-1]
	r.rows = append(r.rows, s.row(alone, alone.name, rate, true))
}

// addStacks adds the accepted and the stored rates to the table.
func (r *results) addStacks(s stage) {
	r.stacks = &s
	for _, one := range s.ours {
		r.rows = append(r.rows, s.row(one, one.name+": accepted", rate, false), s.row(one, one.name+": stored", stored, true))
	}
}

const intro = `# Results

Written by ` + "`make bench`" + `. Each stage was measured together with its limit: everything in a row ran in turn,
round by round, on the same machine. A figure is the median of the rounds, with the lowest and the highest in brackets.
Compare ratios: rates of different machines or times say little about the code.

`

// markdown writes the report.
func (r *results) markdown() []byte {
	b := &bytes.Buffer{}
	b.WriteString(intro)
	fmt.Fprint(b, "| | |\n|---|---|\n")
	for _, f := range r.facts {
		fmt.Fprintf(b, "| %s | %s |\n", f.name, f.value)
	}
	if len(r.rows) > 0 {
		fmt.Fprint(b, "\n![Each stage and its limit](results.svg)\n")
		r.table(b)
	}
	if r.replaced != nil {
		r.writeReplaced(b)
	}
	if r.stacks != nil {
		r.writeStacks(b)
	}
	for _, note := range append(r.refusals(), r.notes...) {
		fmt.Fprintf(b, "\n%s\n", note)
	}
	if len(r.goals) > 0 {
		r.writeGoals(b)
	}
	if len(r.scaling) > 0 {
		r.writeScaling(b)
	}
	return b.Bytes()
}

func (r *results) table(b *bytes.Buffer) {
	fmt.Fprint(b, "\n## Stages and their limits\n\n| Stage | Limit | per second | Ours | per second | of the limit "+
		"|\n|---|---|---:|---|---:|---:|\n")
	for i, w := range r.rows {
		title, limit, perSecond := w.stage, w.limit, w.limitRate.perSecond(w.unit)
		if i > 0 && r.rows[i-1].stage == w.stage {
			title, limit, perSecond = "", "", ""
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s |\n", title, limit, perSecond, w.name, w.rate.perSecond(w.unit),
			w.ratio.ratio())
	}
}

// writeReplaced writes the gain without each store, and names the bottleneck.
func (r *results) writeReplaced(b *bytes.Buffer) {
	base := r.replaced.ours[0]
	fmt.Fprint(b, "\n## What binds\n\nThe whole chain in one process, as `tradestore dev` composes it, with its "+
		"stores replaced in turn by ones that do nothing.\n\n"+
		"| Chain | accepted/s | accepted and stored/s | times the chain as it is | cores: generator, chain, PostgreSQL "+
		"|\n|---|---:|---:|---:|---:|\n")
	for _, s := range r.replaced.ours {
		kept := "nothing is stored"
		if s.of(stored).median > 0 {
			kept = s.of(stored).perSecond("")
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %.2f, %.2f, %.2f |\n", s.name, s.of(rate).perSecond(""), kept,
			gain(s, base).ratio(),
			s.cores(generator.name), s.cores(wholeChain), s.cores(inPostgres))
	}
	fmt.Fprintf(b, "\n%s\n", r.binding())
}

// refusals reports answers other than 202: they cost time but are in no rate.
func (r *results) refusals() (notes []string) {
	for _, s := range []*stage{r.replaced, r.stacks} {
		if s == nil {
			continue
		}
		for _, one := range s.ours {
			if f := one.of(func(s sample) float64 { return float64(s.other) }); f.high > 0 {
				notes = append(notes, fmt.Sprintf("Answers other than 202 in a round, %s: %s.", one.name, f.short()))
			}
		}
	}
	return notes
}

// gain is the throughput relative to the unchanged chain, round by round.
func gain(s, base *series) figure {
	values := make([]float64, len(s.rounds))
	for i := range s.rounds {
		values[i] = passed(s.rounds[i]) / passed(base.rounds[i])
	}
	return figureOf(values)
}

// notable is the gain from which on a store is a bottleneck; less is noise.
const notable = 1.1

// binding names the store with the largest gain, if it is notable.
func (r *results) binding() string {
	base := r.replaced.ours[0]
	most, gained := "", notable
	for _, s := range r.replaced.ours {
		if g := gain(s, base).median; s.lacks != "" && g >= gained {
			most, gained = s.lacks, g
		}
	}
	text := "**No store binds by itself**: without any one of them less than a tenth is gained."
	if most != "" {
		text = fmt.Sprintf("**What binds: %s.** Without it %.1f times as much gets through.", most, gained)
	}
	return text + fmt.Sprintf(" Generator, chain and PostgreSQL use %.1f of %d cores in the chain as it is.",
		base.cores(generator.name)+base.cores(wholeChain)+base.cores(inPostgres), cores())
}

// writeStacks writes the cost of a trade and the use of the cores.
func (r *results) writeStacks(b *bytes.Buffer) {
	fmt.Fprint(b, "\n## What a trade costs\n\nProcessor time of server and worker for each trade that was accepted "+
		"and stored, and who used how many cores.\n\n"+
		"| | trades/s | mean ms until the answer | µs per trade, server and worker | cores |\n|---|---:|---:|---:|---|\n")
	for _, s := range append([]*series{r.stacks.limit}, r.stacks.ours...) {
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", s.name, s.of(passed).perSecond(""), s.of(wait).short(),
			s.of(cost).short(), s.allCores())
	}
}

func wait(s sample) float64 { return s.wait.Seconds() * 1000 }

// cost is the processor time of server and worker per trade, in microseconds.
func cost(s sample) float64 {
	sum := usage(0)
	for name, used := range s.cpu {
		if strings.HasPrefix(name, "server") || strings.HasPrefix(name, "worker") {
			sum += used
		}
	}
	return float64(sum.Microseconds()) / s.count
}

// cores is how many cores a process used, on average, in the median round.
func (s *series) cores(name string) float64 {
	return s.of(func(r sample) float64 { return r.cpu[name].Seconds() / r.lasted.Seconds() }).median
}

// allCores lists the cores used by each process.
func (s *series) allCores() string {
	var used []string
	for _, name := range slices.Sorted(maps.Keys(s.rounds[0].cpu)) {
		used = append(used, fmt.Sprintf("%s %.2f", name, s.cores(name)))
	}
	return strings.Join(used, ", ")
}

// perSecond shows a rate and its spread as 12,345 (11,900 to 12,700).
func (f figure) perSecond(unit string) string {
	return strings.TrimSuffix(fmt.Sprintf("%s (%s to %s) %s", thousands(f.median), thousands(f.low), thousands(f.high),
		unit), " ")
}

func (f figure) short() string { return fmt.Sprintf("%.0f (%.0f to %.0f)", f.median, f.low, f.high) }

// ratio shows about two significant digits and the spread.
func (f figure) ratio() string {
	return fmt.Sprintf("%s (%s to %s)", digits(f.median), digits(f.low), digits(f.high))
}

func digits(v float64) string {
	if v < 0.1 {
		return fmt.Sprintf("%.3f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func thousands(f float64) string {
	s := fmt.Sprintf("%.0f", f)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
