package rules_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"tradestore/dashboards"
	"tradestore/dashboards/rules"
	"tradestore/test/stack"
)

func TestCommittedRulesAreWhatTheCodeMakes(t *testing.T) {
	for name, want := range rules.Make(1) {
		have, err := os.ReadFile(name)
		require.NoError(t, err, "run `make rules`")
		assert.Equal(t, string(want), string(have), "%s is not what the code makes: run `make rules`", name)
	}
	committed, err := filepath.Glob("*.yaml")
	require.NoError(t, err)
	assert.Len(t, committed, len(rules.Make(1)))
}

// A shortened rule differs in its times alone.
func TestScaleShortensTimesOnly(t *testing.T) {
	type file struct {
		Groups []struct {
			Name, Interval string
			Rules          []struct {
				Record, Alert, Expr, For string
				Labels, Annotations      map[string]string
			}
		}
	}
	decode := func(scale float64, name string) (f file) {
		require.NoError(t, yaml.Unmarshal(rules.Make(scale)[name], &f))
		return f
	}
	long, short := decode(1, "alerts.yaml").Groups[0], decode(1.0/120, "alerts.yaml").Groups[0]
	assert.Equal(t, "30s", long.Interval)
	assert.Equal(t, "1s", short.Interval, "no more often than targets are scraped")
	require.Len(t, short.Rules, len(long.Rules))
	for i, a := range short.Rules {
		assert.Equal(t, long.Rules[i].Alert, a.Alert)
		assert.Equal(t, long.Rules[i].Labels, a.Labels)
		assert.Equal(t, long.Rules[i].Annotations, a.Annotations)
		switch a.Alert {
		case "TradestoreFenceLost":
			assert.Equal(t, "sum by (job) (increase(tradestore_apply_fenced_total[7s500ms])) > 0", a.Expr)
			assert.Empty(t, a.For)
		case "TradestoreLagOld":
			assert.Equal(t, long.Rules[i].Expr, a.Expr)
			assert.Equal(t, "2s500ms", a.For)
		case "TradestoreShedSustained":
			assert.Equal(t, `sum by (job, cause) (rate(tradestore_accept_shed_total{cause!="closed"}[5s])) > 1`, a.Expr,
				"two samples at least")
			assert.Equal(t, "5s", a.For)
		}
	}
	names := func(f file) (names []string) {
		for _, g := range f.Groups {
			for _, r := range g.Rules {
				names = append(names, g.Name+"/"+r.Record)
			}
		}
		return names
	}
	assert.Equal(t, names(decode(1, "recording.yaml")), names(decode(1.0/120, "recording.yaml")))
}

func TestRulesAreAccepted(t *testing.T) {
	said, err := stack.Promtool(t, "check", "rules", "--lint=all", "--lint-fatal", "alerts.yaml", "recording.yaml")
	require.NoError(t, err, said)
	dir := t.TempDir()
	for name, text := range rules.Make(1.0 / 120) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	said, err = stack.Promtool(t, "check", "rules", filepath.Join(dir, "alerts.yaml"),
		filepath.Join(dir, "recording.yaml"))
	require.NoError(t, err, said)
}

func TestAlertsLeadSomewhere(t *testing.T) {
	boards := map[string]bool{}
	for _, q := range dashboards.Queries() {
		boards[q.Dashboard] = true
	}
	for _, a := range rules.Alerts() {
		assert.Regexp(t, "^Tradestore[A-Z][A-Za-z]+$", a.Name)
		assert.Contains(t, []string{rules.Page, rules.Ticket}, a.Severity, a.Name)
		assert.True(t, boards[a.Dashboard], "%s leads to %s, which is no dashboard", a.Name, a.Dashboard)
		assert.True(t, strings.HasSuffix(a.Summary, "."), a.Name)
		assert.Contains(t, a.Description, "$value", a.Name)
	}
}
