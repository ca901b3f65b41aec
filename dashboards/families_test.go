package dashboards

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/dashboards/rules"
)

// family is what docs/metrics.md says of one, which a test of ours compares with the code.
type family struct {
	kind   string
	labels map[string][]string // name to values; none when they are not known beforehand
}

var (
	familyRow = regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\| ([a-z]+) \\| [^|]* \\| ([^|]*) \\|")
	labelCell = regexp.MustCompile("`([a-z_]+)`(?:: ([^;]*))?")
	recording = regexp.MustCompile(`(?m)record: (\S+)`)
	selector  = regexp.MustCompile(`([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^}]*)\}`)
	matcher   = regexp.MustCompile(`([a-z_]+)(=~|!~|!=|=)"([^"]*)"`)
)

// foreign are the families of exporters that panels show: postgres_exporter 0.20, KMinion 2.3. Nothing here runs them.
var foreign = map[string]string{
	"pg_stat_activity_count":                       "gauge",
	"pg_stat_database_xact_commit":                 "counter",
	"pg_stat_database_xact_rollback":               "counter",
	"pg_stat_database_blks_read":                   "counter",
	"pg_stat_database_blks_hit":                    "counter",
	"pg_database_size_bytes":                       "gauge",
	"kminion_kafka_consumer_group_topic_lag":       "gauge",
	"kminion_kafka_topic_log_dir_size_total_bytes": "gauge",
	"kminion_kafka_broker_info":                    "gauge",
}

// A panel that reads an exporter says that it needs one, and no other panel does.
func TestPanelsOfExportersSaySo(t *testing.T) {
	for _, q := range Queries() {
		for _, name := range metricsIn(q.Expr) {
			assert.Equal(t, foreign[name] != "", q.MayBeEmpty == NeedsExporter, "%s: %s", q.Panel, name)
		}
	}
}

var families = sync.OnceValue(func() map[string]family {
	found := map[string]family{
		"up":     {kind: "gauge"}, // of Prometheus itself
		"ALERTS": {kind: "gauge", labels: map[string][]string{"alertname": nil, "alertstate": {"pending", "firing"}}},
	}
	for name, kind := range foreign {
		found[name] = family{kind: kind}
	}
	reference, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		panic(err)
	}
	for _, row := range familyRow.FindAllStringSubmatch(string(reference), -1) {
		f := family{kind: row[2], labels: map[string][]string{}}
		for _, cell := range labelCell.FindAllStringSubmatch(row[3], -1) {
			f.labels[cell[1]] = nil
			if cell[2] != "" {
				f.labels[cell[1]] = strings.Split(cell[2], ", ")
			}
		}
		found[row[1]] = f
	}
	for _, file := range rules.Make(1) {
		for _, record := range recording.FindAllStringSubmatch(string(file), -1) {
			found[record[1]] = family{kind: "recorded", labels: map[string][]string{"slo": nil}}
		}
	}
	return found
})

// familyOf returns the family that a series belongs to, and what it is in it.
func familyOf(series string) (f family, part string, ok bool) {
	if f, ok = families()[series]; ok {
		return f, f.kind, f.kind != "histogram" // whose series have endings
	}
	for _, ending := range []string{"_bucket", "_sum", "_count"} {
		if f, ok = families()[strings.TrimSuffix(series, ending)]; ok && strings.HasSuffix(series, ending) {
			return f, "counter", f.kind == "histogram" || f.kind == "summary" && ending != "_bucket"
		}
	}
	return family{}, "", false
}

func exists(series string) bool {
	_, _, ok := familyOf(series)
	return ok
}

func isCounter(series string) bool {
	_, part, _ := familyOf(series)
	return part == "counter"
}

// A label that was renamed selects nothing, and nobody would see.
func TestLabelsExist(t *testing.T) {
	for _, q := range Queries() {
		for _, s := range selector.FindAllStringSubmatch(q.Expr, -1) {
			f, _, ok := familyOf(s[1])
			require.True(t, ok, "%s: %s", q.Panel, s[1])
			for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
				checkMatcher(t, q, f, m[1], m[2], m[3])
			}
		}
	}
}

func checkMatcher(t *testing.T, q Query, f family, label, operator, value string) {
	t.Helper()
	switch label {
	case "job", "instance", "le", "quantile":
		return
	}
	values, ok := f.labels[label]
	assert.True(t, ok, "%s: %s: there is no label %s", q.Panel, q.Expr, label)
	if strings.HasSuffix(operator, "=") && len(values) > 0 {
		assert.Contains(t, values, value, "%s: %s: the label %s has no such value", q.Panel, q.Expr, label)
	}
}

func TestReferenceIsRead(t *testing.T) {
	f := func(series string, there, counter bool) {
		t.Helper()
		assert.Equal(t, there, exists(series), series)
		assert.Equal(t, counter, isCounter(series), series)
	}
	require.Greater(t, len(families()), 80)
	f("tradestore_accept_shed_total", true, true)
	f("tradestore_accept_duration_seconds_bucket", true, true)
	f("tradestore_apply_batch_records_sum", true, true)
	f("tradestore_accept_in_flight", true, false)
	f("tradestore_kafka_buffered_produce_records_total", true, false)
	f("job_slo:tradestore_burn:ratio_rate1h", true, false)
	f("go_gc_duration_seconds", true, false)
	assert.False(t, exists("tradestore_accept_duration_seconds"), "a classic histogram has no series of its own name")
	assert.False(t, exists("tradestore_accept_in_flight_bucket"))
	assert.Equal(t, []string{"lookup", "open", "produce"},
		families()["tradestore_accept_stage_duration_seconds"].labels["stage"])
}

// An alert leads to a dashboard; there a panel has to show why, and lead to the runbook.
func TestAlertsLeadToPanelsThatLeadToTheirRunbooks(t *testing.T) {
	boards, known := map[string][]string{}, map[string]bool{}
	for _, page := range all {
		for _, row := range page.rows {
			for _, panel := range row.panels {
				boards[page.uid] = append(boards[page.uid], panel.alerts...)
			}
		}
	}
	for _, a := range rules.Alerts() {
		known[a.Name] = true
		assert.Contains(t, boards[a.Dashboard], a.Name, "%s links to %s, where no panel names it", a.Name, a.Dashboard)
	}
	for _, names := range slices.Collect(maps.Values(boards)) {
		for _, name := range names {
			assert.True(t, known[name], "there is no alert %s", name)
		}
	}
}
