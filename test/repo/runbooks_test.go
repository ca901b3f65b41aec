package repo

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/dashboards/rules"
)

var (
	invocation = regexp.MustCompile("(?m)(?:^|`)tradestore ([a-z]+)([^`\\n]*)")
	family     = regexp.MustCompile(`\btradestore_[a-z_]+`)
	sqlTable   = regexp.MustCompile(`\b(?:from|join) ([a-z_]+)`)
	madeTable  = regexp.MustCompile(`CREATE TABLE (\w+)`)
)

// runbooks returns the text under each heading, in order.
func runbooks(t *testing.T) (names []string, texts map[string]string) {
	t.Helper()
	texts = map[string]string{}
	for part := range strings.SplitSeq(string(read(t, "docs/runbooks.md")), "\n## ") {
		if name, text, ok := strings.Cut(part, "\n"); ok && strings.HasPrefix(name, "Tradestore") {
			assert.NotContains(t, texts, name)
			names, texts[name] = append(names, name), text
		}
	}
	return names, texts
}

// Somebody who is woken by an alert finds all five answers, in the order in which they are needed.
func TestEachAlertHasItsRunbook(t *testing.T) {
	names, texts := runbooks(t)
	alerts := map[string]bool{}
	for _, a := range rules.Alerts() {
		alerts[a.Name] = true
	}
	for name := range alerts {
		assert.Contains(t, texts, name, "an alert without a runbook")
	}
	for _, name := range names {
		assert.True(t, alerts[name], "a runbook for %s, which is no alert", name)
		rest := texts[name]
		for _, part := range []string{"**For users.** ", "**Confirm.** ", "**Stop the damage.** ", "**Fix.** ",
			"**Verify.** "} {
			assert.Equal(t, 1, strings.Count(texts[name], "\n"+part), "%s: %s", name, part)
			_, after, found := strings.Cut(rest, "\n"+part)
			require.True(t, found, "%s: %s is not in its place", name, part)
			rest = after
		}
		assert.Contains(t, texts[name], "```", "%s: without a command", name)
	}
}

func TestRunbooksNameWhatExists(t *testing.T) {
	text := string(read(t, "docs/runbooks.md"))
	flags := commands(t)
	known := map[string]bool{}
	for _, of := range flags {
		for flag := range of {
			known[flag] = true
		}
	}
	calls := invocation.FindAllStringSubmatch(text, -1)
	require.Greater(t, len(calls), 10)
	for _, call := range calls {
		require.Contains(t, flags, call[1], call[0])
		for _, flag := range flagName.FindAllString(call[2], -1) {
			assert.Contains(t, flags[call[1]], strings.TrimPrefix(flag, "--"), call[0])
		}
	}
	documented := string(read(t, "docs/metrics.md"))
	for _, name := range family.FindAllString(text, -1) {
		assert.True(t, strings.Contains(documented, "`"+strings.TrimRight(name, "_")), "docs/metrics.md knows no %s", name)
	}
	tables := map[string]bool{"pg_stat_activity": true, "pg_stat_user_tables": true, "pg_class": true}
	for _, migration := range files(t, ".sql") {
		for _, made := range madeTable.FindAllStringSubmatch(string(read(t, migration)), -1) {
			tables[made[1]] = true
		}
	}
	for line := range strings.SplitSeq(text, "\n") {
		for _, flag := range flagName.FindAllString(line, -1) {
			foreign := strings.HasPrefix(line, "kafka-") || strings.HasPrefix(line, "aws ")
			assert.True(t, foreign || known[strings.TrimPrefix(flag, "--")], "no flag %s: %s", flag, line)
		}
		if strings.HasPrefix(line, "psql ") {
			for _, named := range sqlTable.FindAllStringSubmatch(line, -1) {
				assert.True(t, tables[named[1]], "no table %s: %s", named[1], line)
			}
		}
	}
}
