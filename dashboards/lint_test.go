package dashboards

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// panelRules hold for every panel: each returns what is wrong, or nothing.
var panelRules = []struct {
	name  string
	wrong func(p dashboard.Panel, exprs []string) string
}{
	{"has a title", func(p dashboard.Panel, _ []string) string { return missing(p.Title) }},
	{"says in a sentence what it shows", func(p dashboard.Panel, _ []string) string {
		return unless(p.Description != nil && len(*p.Description) > 40 && strings.HasSuffix(*p.Description, "."))
	}},
	{"has a unit", func(p dashboard.Panel, _ []string) string { return missing(p.FieldConfig.Defaults.Unit) }},
	{"has thresholds, in ascending order", thresholds},
	{"reads the source that was chosen", func(p dashboard.Panel, _ []string) string {
		return unless(p.Datasource != nil && *p.Datasource.Uid == "${datasource}")
	}},
	{"has a query", func(_ dashboard.Panel, exprs []string) string { return unless(len(exprs) > 0) }},
	{"has a legend for each query", legends},
	{"ranges over $__rate_interval alone", func(_ dashboard.Panel, exprs []string) string {
		return first(exprs, rangesIn, func(r string) bool { return r == "$__rate_interval" })
	}},
	{"takes a rate of counters alone", func(_ dashboard.Panel, exprs []string) string {
		return first(exprs, ratedIn, isCounter)
	}},
	{"shows no counter as it is", bareCounters},
	{"reads series that exist", func(_ dashboard.Panel, exprs []string) string { return first(exprs, metricsIn, exists) }},
	{"selects job and instance", selects},
	{"draws no more than 8 queries", func(_ dashboard.Panel, exprs []string) string { return unless(len(exprs) <= 8) }},
}

func TestPanels(t *testing.T) {
	for file, d := range committed(t) {
		for _, p := range panelsOf(d) {
			for _, rule := range panelRules {
				if what := rule.wrong(p, exprsOf(t, p)); what != "" {
					t.Errorf("%s: panel %q breaks the rule %q: %s", file, *p.Title, rule.name, what)
				}
			}
		}
	}
}

func unless(ok bool) string {
	if ok {
		return ""
	}
	return "it does not"
}

func missing(text *string) string { return unless(text != nil && *text != "") }

// first returns the first of what find returns for the expressions that is not good.
func first(exprs []string, find func(string) []string, good func(string) bool) string {
	for _, expr := range exprs {
		for _, found := range find(expr) {
			if !good(found) {
				return fmt.Sprintf("%q in %s", found, expr)
			}
		}
	}
	return ""
}

func thresholds(p dashboard.Panel, _ []string) string {
	limits := p.FieldConfig.Defaults.Thresholds
	if limits == nil || len(limits.Steps) == 0 || limits.Steps[0].Value != nil {
		return "there is no base step"
	}
	for i := 2; i < len(limits.Steps); i++ {
		if *limits.Steps[i].Value <= *limits.Steps[i-1].Value {
			return fmt.Sprintf("%g follows %g", *limits.Steps[i].Value, *limits.Steps[i-1].Value)
		}
	}
	return ""
}

func legends(p dashboard.Panel, _ []string) string {
	seen := map[string]bool{}
	for _, target := range p.Targets {
		legend := target.(*prometheus.Dataquery).LegendFormat
		if legend == nil || *legend == "" || seen[*legend] {
			return "one is missing or there twice"
		}
		seen[*legend] = true
	}
	return ""
}

func bareCounters(_ dashboard.Panel, exprs []string) string {
	for _, expr := range exprs {
		inRates := ratedIn(expr)
		for _, name := range metricsIn(expr) {
			if isCounter(name) && !slices.Contains(inRates, name) {
				return name
			}
		}
	}
	return ""
}

// selects finds a series of ours that is read without the choice of job and instance. Recorded series, which have a
// colon in their names, and those of exporters are of the whole deployment.
func selects(_ dashboard.Panel, exprs []string) string {
	for _, expr := range exprs {
		read := map[string]int{} // how often, less how often with the choice
		for _, name := range words.FindAllString(expr, -1) {
			read[name]++
		}
		for _, s := range selector.FindAllStringSubmatch(expr, -1) {
			if strings.HasPrefix(s[2], chosen) {
				read[s[1]]--
			}
		}
		for _, name := range metricsIn(expr) {
			if !strings.Contains(name, ":") && foreign[name] == "" && read[name] != 0 {
				return fmt.Sprintf("%s in %s", name, expr)
			}
		}
	}
	return ""
}

func TestFrame(t *testing.T) {
	uids, ids := map[string]bool{}, map[uint32]bool{}
	for file, d := range committed(t) {
		require.Regexp(t, `^tradestore-[a-z]+$`, *d.Uid, file)
		require.False(t, uids[*d.Uid], "%s: the uid %s is there twice", file, *d.Uid)
		uids[*d.Uid] = true
		assert.Contains(t, d.Tags, tag, file)
		assert.Contains(t, linksOf(d), "dashboards "+tag, "%s does not link to the other dashboards", file)
		assert.Contains(t, linksOf(d), "link ${runbook_base}", "%s does not link to the runbooks", file)

		clear(ids)
		titles := map[string]bool{}
		for _, p := range d.Panels {
			id, title := idOf(p)
			assert.False(t, ids[id], "%s: the id %d is there twice", file, id)
			assert.False(t, titles[title], "%s: %q is there twice", file, title)
			ids[id], titles[title] = true, true
		}
		checkGrid(t, file, d)
		checkVariables(t, file, d)
	}
}

// checkGrid finds panels that overlap, and lines of panels that leave a hole.
func checkGrid(t *testing.T, file string, d model) {
	t.Helper()
	taken := map[[2]uint32]string{}
	bottom := uint32(0)
	for _, p := range d.Panels {
		_, title := idOf(p)
		pos := gridOf(p)
		for x := pos.X; x < pos.X+pos.W; x++ {
			for y := pos.Y; y < pos.Y+pos.H; y++ {
				require.Empty(t, taken[[2]uint32{x, y}], "%s: %q lies on it", file, title)
				taken[[2]uint32{x, y}] = title
			}
		}
		require.LessOrEqual(t, pos.X+pos.W, uint32(gridWidth), "%s: %q", file, title)
		bottom = max(bottom, pos.Y+pos.H)
	}
	require.Equal(t, int(bottom)*gridWidth, len(taken), "%s: there is a hole between the panels", file)
}

// checkVariables compares the variables that are there with those that are used.
func checkVariables(t *testing.T, file string, d model) {
	t.Helper()
	used := map[string]bool{}
	use := func(text string) {
		for _, name := range variablesIn(text) {
			used[name] = !strings.HasPrefix(name, "__") // Grafana's own
		}
	}
	for _, p := range panelsOf(d) {
		use(*p.Datasource.Uid)
		use(*p.Interval)
		for _, expr := range exprsOf(t, p) {
			use(expr)
		}
		for _, link := range p.Links {
			use(*link.Url)
		}
	}
	for _, link := range d.Links {
		if link.Url != nil {
			use(*link.Url)
		}
	}
	for _, a := range d.Annotations.List {
		use(*a.Expr)
	}
	var declared []string
	for _, v := range d.Templating.List {
		declared = append(declared, v.Name)
		assert.True(t, used[v.Name], "%s: nothing uses the variable %s", file, v.Name)
		assert.NotEmpty(t, v.Description, "%s: the variable %s has no description", file, v.Name)
	}
	for name, ours := range used {
		if ours {
			assert.Contains(t, declared, name, "%s: a variable is missing", file)
		}
	}
	for _, name := range []string{"datasource", "job", "instance", "interval", "runbook_base"} {
		assert.Contains(t, declared, name, file)
	}
}
