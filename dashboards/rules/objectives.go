package rules

import (
	"fmt"
	"strings"
)

// objective is a share of events that must be good over 30 days. The rest is the error budget.
type objective struct {
	slo       string // label of its series
	budget    string // the share that may be bad
	target    string // the rest
	events    string // per second, with [W] for the window
	errors    string // the bad ones among them
	alert     string
	dashboard string
	what      string // is bad, for people
}

const accepts = `tradestore_http_requests_total{route="/api/v1/trades",method="POST"`

// objectives count each trade of a bulk request. A refused connection counts as one trade that was not accepted.
// Prometheus labels a bucket of 1 s "1" or "1.0", by version.
var objectives = []objective{
	{
		slo: "accept-availability", target: "0.999", budget: "0.001",
		events: `sum by (job) (rate(` + accepts + `}[W])) + sum by (job) (rate(tradestore_accept_bulk_items_total[W]))
			+ sum by (job) (rate(tradestore_http_connections_refused_total[W]))`,
		errors: `sum by (job) (rate(` + accepts + `,code=~"5..|429"}[W]))` +
			` + sum by (job) (rate(tradestore_accept_bulk_items_total{result=~"unavailable|unknown"}[W]))
			+ sum by (job) (rate(tradestore_http_connections_refused_total[W]))`,
		alert: "TradestoreAcceptAvailabilityBurn", dashboard: "tradestore-overview", what: "submitted trades are not taken",
	},
	{
		slo: "accept-latency", target: "0.99", budget: "0.01",
		events: `sum by (job) (rate(tradestore_accept_duration_seconds_count[W]))`,
		errors: `sum by (job) (rate(tradestore_accept_duration_seconds_count[W])) - sum by (job) ` +
			`(rate(tradestore_accept_duration_seconds_bucket{le="0.1"}[W]))`,
		alert: "TradestoreAcceptLatencyBurn", dashboard: "tradestore-ingest",
		what: "accepted trades wait longer than 100 ms for their 202",
	},
	{
		slo: "time-to-final", target: "0.99", budget: "0.01",
		events: `sum by (job) (rate(tradestore_projection_end_to_end_seconds_count[W]))`,
		errors: `sum by (job) (rate(tradestore_projection_end_to_end_seconds_count[W])) - sum by (job) ` +
			`(rate(tradestore_projection_end_to_end_seconds_bucket{le=~"1|1.0"}[W]))`,
		alert: "TradestoreTimeToFinalBurn", dashboard: "tradestore-worker",
		what: "accepted trades take longer than 1 s to their outcome",
	},
}

// burn is a rate of budget use. The long window shows that it matters, the short one that it still lasts. Factors and
// windows are those of the SRE workbook, chapter 5.
type burn struct{ factor, long, short, wait, severity string }

var burns = []burn{
	{"14.4", "1h", "5m", "2m", Page},
	{"6", "6h", "30m", "15m", Page},
	{"3", "1d", "2h", "1h", Ticket},
	{"1", "3d", "6h", "3h", Ticket},
}

// least is how many events of the long window must be bad for an alert: with few requests, one error is a high share.
const least = "10"

func (o *objective) labels() map[string]string { return map[string]string{"slo": o.slo} }

// over is the share of bad events in a window; 0 when there were none at all.
func (o *objective) over(window string) rule {
	in := strings.NewReplacer("[W]", "["+window+"]")
	return rule{Record: "job_slo:tradestore_errors:ratio_rate" + window, Labels: o.labels(),
		Expr: fmt.Sprintf("(%[1]s)\n/\n((%[2]s) > 0)\nor\n0 * (%[2]s)", in.Replace(o.errors), in.Replace(o.events))}
}

// bad is how many events of a window were bad.
func (o *objective) bad(window string) rule {
	in := strings.NewReplacer("[W]", "["+window+"]", "rate(", "increase(")
	return rule{Record: "job_slo:tradestore_errors:increase" + window, Labels: o.labels(), Expr: in.Replace(o.errors)}
}

// objectivesFast are the series over hours.
func objectivesFast() []rule {
	var all []rule
	for _, o := range objectives {
		in := strings.NewReplacer("[W]", "[5m]")
		all = append(all,
			rule{Record: "slo:tradestore_objective:ratio", Labels: o.labels(), Expr: "vector(" + o.target + ")"},
			rule{Record: "job_slo:tradestore_events:rate5m", Labels: o.labels(), Expr: in.Replace(o.events)},
			rule{Record: "job_slo:tradestore_errors:rate5m", Labels: o.labels(), Expr: in.Replace(o.errors)})
		for _, window := range []string{"5m", "30m", "1h", "2h", "6h"} {
			all = append(all, o.over(window))
		}
		all = append(all, o.bad("1h"), o.bad("6h"))
	}
	for _, window := range []string{"1h", "6h"} {
		all = append(all, rule{Record: "job_slo:tradestore_burn:ratio_rate" + window,
			Expr: "job_slo:tradestore_errors:ratio_rate" + window +
				" / on (slo) group_left () (1 - slo:tradestore_objective:ratio)"})
	}
	return all
}

// objectivesSlow are the series over days. The one over 30 days sums recorded series: a month of raw counters is too
// much.
func objectivesSlow() []rule {
	var all []rule
	for _, o := range objectives {
		all = append(all, o.over("1d"), o.over("3d"), o.bad("1d"), o.bad("3d"))
	}
	return append(all,
		rule{Record: "job_slo:tradestore_errors:ratio_rate30d", Expr: `
			sum_over_time(job_slo:tradestore_errors:rate5m[30d])
			/
			(sum_over_time(job_slo:tradestore_events:rate5m[30d]) > 0)
			or
			0 * job_slo:tradestore_events:rate5m`},
		rule{Record: "job_slo:tradestore_error_budget:remaining30d",
			Expr: `1 - job_slo:tradestore_errors:ratio_rate30d / on (slo) group_left () (1 - slo:tradestore_objective:ratio)`})
}

// flow are the series that compare accepted with decided trades.
func flow() []rule {
	return []rule{
		{Record: "job:tradestore_accepted:rate5m", Expr: `sum by (job) (rate(tradestore_accept_delivered_total[5m]))`},
		{Record: "job:tradestore_decided:rate5m",
			Expr: `sum by (job) (rate(tradestore_apply_outcomes_total{reason!="NOT_DELIVERED"}[5m]))`},
		{Record: "job:tradestore_lag_records:sum", Expr: `sum by (job) (tradestore_apply_lag_records)`},
		{Record: "job:tradestore_lag_seconds:max", Expr: `max by (job) (tradestore_apply_lag_seconds)`},
	}
}

func burnAlerts() []Alert {
	var all []Alert
	for _, o := range objectives {
		for _, b := range burns {
			ratio := func(window string) string {
				return fmt.Sprintf("job_slo:tradestore_errors:ratio_rate%s{slo=%q} > %s * %s", window, o.slo, b.factor, o.budget)
			}
			all = append(all, Alert{
				Name: o.alert, Severity: b.severity, Dashboard: o.dashboard, For: b.wait,
				Labels: map[string]string{"long": b.long, "short": b.short},
				Expr: ratio(b.long) + "\nand\n" + ratio(b.short) +
					fmt.Sprintf("\nand\njob_slo:tradestore_errors:increase%s{slo=%q} >= %s", b.long, o.slo, least),
				Summary: "Too many " + o.what + ".",
				Description: "{{ $value | humanizePercentage }} within " + b.long + " ({{ $labels.job }}): " + b.factor +
					" times what the objective of " + o.target + " allows, and it goes on.",
			})
		}
	}
	return all
}
