package loadtest

import (
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var escapeCode = regexp.MustCompile("\x1b\\[[0-9;]*m")

func printed(r *Report, colour bool) string {
	var b strings.Builder
	r.Print(&b, colour)
	return b.String()
}

func TestPrintSaysWhatMatters(t *testing.T) {
	r := full("")
	r.Objectives[0].OK = false
	r.Folder = "loadtest-report/2026"
	text := printed(r, false)
	for _, want := range []string{
		"PASS  capacity 4,250/s", "4,250/s sustained, 4,460/s not", "saturated first: CPU of the machine",
		"at 8,500/s: 51.0 % shed, 3,800/s accepted, recovered in 2.40 s",
		"✗ accept p99", "✓ final status p99", "--max-accept-p99", "400 STALE_VERSION: 1,788, 202: 2",
		"52,006 accepted with the warm-up: 51,998 SUCCESS, 8 FAILED after a higher version", "lost     1\n           x\n",
		"loadtest-report/2026/report.html", "**PASS**", "--seed=8731224991",
	} {
		assert.Contains(t, text, want)
	}
	r.Capacity.Overload.Recovery = -1
	assert.Contains(t, printed(r, false), "not recovered within the wait")
}

func TestColourChangesNoText(t *testing.T) {
	r := full("")
	r.Answers[0].Wrong = 1
	for _, r.Verdict = range []string{Pass, Fail, Void} {
		assert.NotContains(t, printed(r, false), "\x1b")
		assert.Contains(t, printed(r, true), "\x1b[")
		assert.Equal(t, printed(r, false), escapeCode.ReplaceAllString(printed(r, true), ""))
	}
}

func TestPrintOfARunThatDidNotHappen(t *testing.T) {
	text := printed(&Report{Verdict: Fail, Why: []string{"the target is not ready"}}, false)
	assert.Contains(t, text, "FAIL  nothing was sent\n")
	assert.Contains(t, text, "the target is not ready")
	assert.Contains(t, text, "nothing was compared")
	assert.NotContains(t, text, "✓")
}

func TestTitleReadsStages(t *testing.T) {
	f := func(schedule, want string) {
		t.Helper()
		assert.Equal(t, want, (&Report{Load: Load{Schedule: schedule}}).Title())
	}
	f("", "nothing was sent")
	f("1000/1m", "1,000/s for 1m")
	f("1000/30s,1000..2000/30s", "1,000/s for 30s, then 1,000 to 2,000/s for 30s")
	f("218.1015465330515/4s", "218/s for 4s")
	f("x/y", "x/s for y")
	f("x", "x")
}

func TestLineIsOneLine(t *testing.T) {
	assert.Equal(t, `**PASS** 1,000/s for 1m0s: sent 1,000/s; accepted 831/s; accept p50 3.10 ms, p99 18.0 ms; final `+
		`p99 67.9 ms; errors 0 %; `+
		`lost 0, doubled 0, stuck 0, wrong 0 of 52,006 · vegeta · tradestore dev: embedded Kafka, PostgreSQL 16.13 · `+
		`AMD EPYC 9R14, 2 cores, linux 6.1 amd64 · 959c0fe3a1b2`, sampleReport(5).Line())
	assert.Equal(t, `**FAIL** nothing was sent: sent 0/s; accepted 0/s; errors 0 %; not reconciled`,
		(&Report{Verdict: Fail}).Line())
	for _, text := range hostile {
		line := full(text).Line()
		assert.Equal(t, plain(line), line, "%q", text)
		assert.NotRegexp(t, `[^\\][<|\[]`, line, "%q", text)
	}
}

// Neither the cursor nor the title of the terminal obeys a server.
func TestHostileTextIsPrintedAsText(t *testing.T) {
	for _, text := range hostile {
		r := sampleReport(3)
		fill(reflect.ValueOf(r).Elem(), text)
		for line := range strings.SplitSeq(strings.TrimSuffix(printed(r, false), "\n"), "\n") {
			require.Equal(t, plain(line), line, "%q", text)
		}
	}
}
