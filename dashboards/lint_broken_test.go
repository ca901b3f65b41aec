package dashboards

import (
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// brokenRules returns the names of the rules that a panel breaks. It may be changed first as Grafana would read it.
func brokenRules(t *testing.T, p panel, change ...func(*dashboard.Panel)) []string {
	t.Helper()
	model, err := placed{p, 1, dashboard.GridPos{W: 12, H: 8}}.Build()
	require.NoError(t, err)
	var exprs []string
	for i, target := range model.Targets {
		query := target.(prometheus.Dataquery)
		exprs = append(exprs, query.Expr)
		model.Targets[i] = &query // as it is decoded
	}
	for _, c := range change {
		c(&model)
	}
	var broken []string
	for _, rule := range panelRules {
		if rule.wrong(model, exprs) != "" {
			broken = append(broken, rule.name)
		}
	}
	return broken
}

func TestRulesSeeBrokenPanels(t *testing.T) {
	const about = "What is shown here, in words that are enough for somebody who never saw it."
	const good = `sum(rate(tradestore_accept_shed_total{@}[$__rate_interval]))`
	f := func(rule string, p panel, change ...func(*dashboard.Panel)) {
		t.Helper()
		assert.Contains(t, brokenRules(t, p, change...), rule)
	}
	shows := func(expr string) panel { return lines("Title", perSecond, rare(), about, q("legend", expr)) }
	require.Empty(t, brokenRules(t, shows(good)))
	require.Empty(t, brokenRules(t, shows(`max(tradestore_apply_lag_seconds{@})`)))
	require.Empty(t, brokenRules(t, shows(`histogram_quantile(0.9, sum by (le) `+
		`(rate(tradestore_accept_duration_seconds_bucket{@}[$__rate_interval])))`)))

	f("has a title", lines("", perSecond, rare(), about, q("legend", good)))
	f("says in a sentence what it shows", lines("Title", perSecond, rare(), "Shed.", q("legend", good)))
	f("has a unit", lines("Title", "", rare(), about, q("legend", good)))
	f("has thresholds, in ascending order", lines("Title", perSecond, nil, about, q("legend", good)))
	f("has thresholds, in ascending order", lines("Title", perSecond, above(2, 1), about, q("legend", good)))
	f("has thresholds, in ascending order", shows(good),
		func(p *dashboard.Panel) { p.FieldConfig.Defaults.Thresholds = nil })
	f("reads the source that was chosen", shows(good), func(p *dashboard.Panel) { p.Datasource = nil })
	f("has a query", lines("Title", perSecond, rare(), about))
	f("has a legend for each query", lines("Title", perSecond, rare(), about, q("", good)))
	f("has a legend for each query", lines("Title", perSecond, rare(), about, q("twice", good), q("twice", good)))
	f("ranges over $__rate_interval alone", shows(`sum(rate(tradestore_accept_shed_total{@}[5m]))`))
	f("takes a rate of counters alone", shows(`sum(rate(tradestore_accept_in_flight{@}[$__rate_interval]))`))
	f("takes a rate of counters alone",
		shows(`sum(rate(tradestore_kafka_buffered_produce_records_total{@}[$__rate_interval]))`))
	f("shows no counter as it is", shows(`sum(tradestore_accept_shed_total{@})`))
	f("reads series that exist", shows(`sum(rate(tradestore_accept_sheds_total{@}[$__rate_interval]))`))
	f("reads series that exist", shows(`tradestore_accept_duration_seconds{@}`))
	f("selects job and instance", shows(`sum(rate(tradestore_accept_shed_total[$__rate_interval]))`))
	f("selects job and instance", shows(`tradestore_accept_in_flight{@} / tradestore_accept_in_flight_limit`))
	f("draws no more than 8 queries", lines("Title", perSecond, rare(), about, make([]query, 9)...))
}
