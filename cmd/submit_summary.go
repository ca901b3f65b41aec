package cmd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"tradestore/trade"
)

const (
	shownResults = 10  // failed results shown during the run
	mostCodes    = 100 // codes listed separately; a service could invent more
)

// tally counts results by status and code.
type tally struct {
	counts map[trade.Status]map[string]int64
	done   int64 // in this process
	before int64 // by earlier processes of the run
	bad    int64 // in this process: neither PENDING nor SUCCESS
}

// add counts a result of this process and returns how many bad ones there are now.
func (t *tally) add(r result) (bad int64) {
	t.done++
	if r.Status != trade.Pending && r.Status != trade.Success {
		t.bad++
	}
	t.count(r)
	return t.bad
}

// earlier counts a result that an earlier process of the run has written down.
func (t *tally) earlier(r result) {
	t.before++
	t.count(r)
}

func (t *tally) count(r result) {
	if t.counts == nil {
		t.counts = make(map[trade.Status]map[string]int64)
	}
	codes := t.counts[r.Status]
	if codes == nil {
		codes = make(map[string]int64)
		t.counts[r.Status] = codes
	}
	if _, known := codes[r.Code]; !known && len(codes) >= mostCodes {
		r.Code = "OTHERS"
	}
	codes[r.Code]++
}

func (t *tally) of(s trade.Status) (n int64) {
	for _, count := range t.counts[s] {
		n += count
	}
	return n
}

func (r *result) String() string {
	return strings.TrimSpace(fmt.Sprintf("line %d: %s %s %s", r.Line, r.Status, r.Code, r.Detail))
}

const barWidth = 20

// line is the progress: of the bytes, because how many trades there are is known at the end only.
func (s *submitter) line() string {
	s.mu.Lock()
	done, bad := s.tally.done, s.tally.bad
	s.mu.Unlock()
	var b strings.Builder
	took := time.Since(s.started)
	if size, taken := s.input.size, min(s.input.taken.Load(), s.input.size); size > 0 {
		fmt.Fprintf(&b, "[%-*s] %d%%  ", barWidth, strings.Repeat("=", int(barWidth*taken/size)), 100*taken/size)
		if taken > 0 {
			left := time.Duration(float64(took) * float64(size-taken) / float64(taken))
			fmt.Fprintf(&b, "%v left  ", left.Round(time.Second))
		}
	}
	fmt.Fprintf(&b, "%d trades  %.0f/s  %d bad", done, float64(done)/took.Seconds(), bad)
	if trouble := s.sender.trouble.text.Swap(nil); trouble != nil { // shown once, unless it goes on
		b.WriteString("  " + *trouble)
	}
	return b.String()
}

// summary is what --json shows at the end. Counts cover the whole run, earlier processes included.
type summary struct {
	Run      string                            `json:"run"`
	Finished bool                              `json:"finished"`
	Why      string                            `json:"why,omitempty"` // it is not finished
	Lines    int64                             `json:"lines"`
	Before   int64                             `json:"lines_before"` // of them, by earlier processes
	Seconds  float64                           `json:"seconds"`
	Statuses map[trade.Status]map[string]int64 `json:"statuses"` // by code; "" is none
	Results  string                            `json:"results,omitempty"`
	Resume   string                            `json:"resume,omitempty"` // the command that goes on
}

// conclude shows the summary and returns how the command ends. cause is why it ended early, nil if it did not.
func (s *submitter) conclude(cause error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := summary{
		Run: s.results.Name, Lines: s.tally.done + s.tally.before, Before: s.tally.before,
		Seconds: time.Since(s.started).Seconds(), Statuses: s.tally.counts, Results: s.cfg.resultsFile(),
	}
	open := s.tally.of(unknown)
	if s.cfg.Wait {
		open += s.tally.of(trade.Pending)
	}
	switch {
	case errors.Is(cause, context.Canceled):
		sum.Why = "it was interrupted"
	case cause != nil:
		sum.Why = cause.Error()
	case open > 0:
		sum.Why = fmt.Sprintf("%d lines have no final answer", open)
	}
	sum.Finished = sum.Why == "" && s.read.Load()
	if !sum.Finished && sum.Results != "" {
		sum.Resume = s.cfg.resumeCommand()
	}
	err := errors.Join(s.show(sum), s.results.close())
	switch {
	case err != nil:
		return err
	case !sum.Finished:
		return &exitError{code: exitUnknown}
	case s.tally.of(refused)+s.tally.of(trade.Failed)+s.tally.of(unreadable) > 0:
		return &exitError{code: exitFailed}
	}
	return nil
}

func (s *submitter) show(sum summary) error {
	if s.cfg.JSON {
		return writeJSON(s.process.stdout, sum)
	}
	w := tabulate(s.process.stdout)
	fmt.Fprintf(w, "lines\t%d\tin %.1f s", sum.Lines, sum.Seconds)
	if sum.Before > 0 {
		fmt.Fprintf(w, ", %d of them earlier", sum.Before)
	}
	fmt.Fprintln(w)
	for _, row := range []struct {
		name   string
		colour string
		status trade.Status
	}{{"stored", green, trade.Success}, {"accepted", green, trade.Pending}, {"failed", red, trade.Failed},
		{"refused", red, refused},
		{"unreadable", red, unreadable}, {"not known", yellow, unknown}} {
		if n := s.tally.of(row.status); n > 0 {
			fmt.Fprintf(w, "%s\t%d\t%s\n", row.name, n, s.process.paint(row.colour, printable(codes(sum.Statuses[row.status]))))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if sum.Results != "" {
		fmt.Fprintf(s.process.stdout, "results in %s\n", printable(sum.Results))
	}
	if !sum.Finished {
		fmt.Fprintf(s.process.stdout, "NOT FINISHED: %s\n", printable(sum.Why))
	}
	if sum.Resume != "" {
		fmt.Fprintf(s.process.stdout, "go on with: %s\n", printable(sum.Resume))
	}
	return nil
}

// codes lists codes with their counts, the most frequent first.
func codes(counts map[string]int64) string {
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return int(counts[b]-counts[a])*2 + strings.Compare(a, b)
	})
	var parts []string
	for _, name := range names {
		if name != "" {
			parts = append(parts, fmt.Sprintf("%s %d", name, counts[name]))
		}
	}
	return strings.Join(parts, ", ")
}

// resumeCommand is what goes on with the run.
func (c *submitCommand) resumeCommand() string {
	parts := []string{"tradestore submit", word(c.File), "--resume"}
	if c.Results != "" {
		parts = append(parts, "--results", word(c.Results))
	}
	if c.Client.URL != defaultURL && !strings.Contains(c.Client.URL, "@") { // a password is not for a screen
		parts = append(parts, "--url", word(c.Client.URL))
	}
	if c.Format != "auto" {
		parts = append(parts, "--format", c.Format)
	}
	if c.Wait {
		parts = append(parts, "--wait")
	}
	return strings.Join(parts, " ")
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:@%+=-]+$`)

// word quotes an argument for a shell.
func word(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
