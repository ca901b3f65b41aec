package dashboards

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What these find in an expression is enough for rules about names and ranges. That it parses is for Prometheus to say.
var (
	quoted    = regexp.MustCompile(`"[^"]*"`)
	braces    = regexp.MustCompile(`\{[^}]*\}`)
	ranges    = regexp.MustCompile(`\[([^\]]*)\]`)
	groupings = regexp.MustCompile(`\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)`)
	calls     = regexp.MustCompile(`\b[a-z_0-9]+\s*\(`)
	variable  = regexp.MustCompile(`\$\{?([a-z_]+)`)
	words     = regexp.MustCompile(`\b[a-zA-Z_:][a-zA-Z0-9_:]*`)
	rated     = regexp.MustCompile(`\b(?:rate|irate|increase)\(([a-zA-Z0-9_:]+)`)
)

var operators = []string{"and", "or", "unless", "bool", "offset", "inf", "nan"}

// metricsIn returns the names of the series that an expression reads, each once.
func metricsIn(expr string) []string {
	for _, part := range []*regexp.Regexp{quoted, braces, ranges, groupings, calls, variable} {
		expr = part.ReplaceAllString(expr, " ")
	}
	var names []string
	seen := map[string]bool{}
	for _, op := range operators {
		seen[op] = true
	}
	for _, name := range words.FindAllString(expr, -1) {
		if lower := strings.ToLower(name); !seen[name] && !seen[lower] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}

// ratedIn returns the names of the series that an expression takes a rate or an increase of.
func ratedIn(expr string) []string {
	var names []string
	for _, match := range rated.FindAllStringSubmatch(expr, -1) {
		names = append(names, match[1])
	}
	return names
}

// rangesIn returns the ranges of an expression, what is in square brackets.
func rangesIn(expr string) []string {
	var found []string
	for _, match := range ranges.FindAllStringSubmatch(expr, -1) {
		found = append(found, match[1])
	}
	return found
}

// variablesIn returns the names of the variables in a text.
func variablesIn(text string) []string {
	var names []string
	for _, match := range variable.FindAllStringSubmatch(text, -1) {
		names = append(names, match[1])
	}
	return names
}

func TestNamesAreFoundInExpressions(t *testing.T) {
	f := func(expr string, want ...string) {
		t.Helper()
		require.Equal(t, want, metricsIn(expr))
	}
	f(`sum by (le) (rate(a_bucket{job=~"$job",le="0.1"}[$__rate_interval]))`, "a_bucket")
	f(`a / (b > 0) or vector(0)`, "a", "b")
	f(`max by (x) (job:a:rate5m) and on (x) (b == 0) unless c offset $d`, "job:a:rate5m", "b", "c")
	f(`clamp_min(1 - a{b="c d"}, 0) * 1e3 + a`, "a")
	require.Equal(t, []string{"a", "b"}, ratedIn(`rate(a{x="y"}[1m]) + increase(b[1m]) + changes(c[1m])`))
	require.Equal(t, []string{"1m", "$__rate_interval"}, rangesIn(`rate(a[1m]) + rate(b[$__rate_interval])`))
	require.Equal(t, []string{"job", "__rate_interval", "runbook_base"},
		variablesIn(`{job=~"$job"}[$__rate_interval] ${runbook_base}#x`))
}
