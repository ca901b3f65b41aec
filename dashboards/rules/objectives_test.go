package rules_test

import (
	"fmt"
	"testing"
)

const (
	shares = "job_slo:tradestore_errors:ratio_rate"
	counts = "job_slo:tradestore_errors:increase"
)

// of is a recorded series of an objective.
func of(name, window, job, slo string) string {
	return name + window + `{job="` + job + `",slo="` + slo + `"}`
}

// burnStories gives each objective a story for each of its windows. The recorded shares are given, first high in the
// long window alone, then in the short one alone, where nothing must fire, and then in both until the short one is over
// it.
func burnStories() (all []story) {
	f := func(alert, slo, job, target string, budget, times float64, long, short, factor, before, fires string) {
		bad := fmt.Sprintf("%.4g", times*budget)
		all = append(all, story{
			alert: alert, long: long,
			given: map[string]string{
				of(shares, long, job, slo):  bad + "x29 0x29 " + bad + "x300",
				of(shares, short, job, slo): "0x29 " + bad + "x29 " + bad + "x240 0x60",
				of(counts, long, job, slo):  "10x360",
			},
			quiet: "29m 59m " + before, fires: fires, over: "301m",
			labels: map[string]string{"job": job, "slo": slo},
			says: fmt.Sprintf("%.4g%% within %s (%s): %s times what the objective of %s allows, and it goes on.",
				times*budget*100, long, job, factor, target),
		})
	}
	for _, o := range []struct {
		alert, slo, job, target string
		budget                  float64
	}{
		{"TradestoreAcceptAvailabilityBurn", "accept-availability", "tradestore-server", "0.999", 0.001},
		{"TradestoreAcceptLatencyBurn", "accept-latency", "tradestore-server", "0.99", 0.01},
		{"TradestoreTimeToFinalBurn", "time-to-final", "tradestore-worker", "0.99", 0.01},
	} {
		f(o.alert, o.slo, o.job, o.target, o.budget, 15, "1h", "5m", "14.4", "61m", "62m")
		f(o.alert, o.slo, o.job, o.target, o.budget, 7, "6h", "30m", "6", "74m", "75m")
		f(o.alert, o.slo, o.job, o.target, o.budget, 4, "1d", "2h", "3", "119m", "120m")
		f(o.alert, o.slo, o.job, o.target, o.budget, 2, "3d", "6h", "1", "239m", "240m")
	}
	return all
}

// With so few trades that every share is high, nine bad ones are no alert.
func TestAFewBadOnesAreNoAlert(t *testing.T) {
	given := map[string]string{}
	for _, window := range []string{"5m", "30m", "1h", "2h", "6h", "1d", "3d"} {
		given[of(shares, window, "tradestore-server", "accept-availability")] = "0.2x300"
	}
	f := func(bad string, alerts ...any) {
		t.Helper()
		for _, window := range []string{"1h", "6h", "1d", "3d"} {
			given[of(counts, window, "tradestore-server", "accept-availability")] = bad + "x300"
		}
		promtool(t, []any{map[string]any{"name": bad, "interval": "1m", "input_series": inputs(given),
			"promql_expr_test": []any{map[string]any{
				"expr": `count(ALERTS{alertname="TradestoreAcceptAvailabilityBurn"})`, "eval_time": "290m",
				"exp_samples": alerts}}}}, "alerts.yaml")
	}
	f("9")
	f("10", map[string]any{"labels": "{}", "value": 4})
}

// What is counted reaches the alerts: after an hour in which all is well, every second trade is bad for half an hour.
func TestObjectivesAreMeasured(t *testing.T) {
	const all = "0+60x120 7200x30"
	const good = "0+60x60 3630+30x29 4560+60x29 6300x30"
	const partOfGood, partOfBad = "0+15x60 907.5+7.5x29 1140+15x29 1575x30", "0x60 7.5+7.5x29 225x60" // a quarter each
	type check struct {
		Expr string `yaml:"expr"`
		At   string `yaml:"eval_time"`
		Want []any  `yaml:"exp_samples"`
	}
	f := func(slo, job, alert string, given map[string]string, burn, left float64) any {
		one := func(expr, at string, labels string, value float64) check {
			return check{expr, at, []any{map[string]any{"labels": labels, "value": value}}}
		}
		by := fmt.Sprintf(`{job=%q,slo=%q}`, job, slo)
		firing := func(at string, alerts ...any) check {
			return check{fmt.Sprintf(`count by (alertname, severity) (ALERTS{alertname=%q,long="1h",alertstate="firing"})`,
				alert), at, alerts}
		}
		fired := map[string]any{"labels": fmt.Sprintf(`{alertname=%q,severity="page"}`, alert), "value": 1}
		return map[string]any{"name": slo, "interval": "1m", "input_series": inputs(given), "promql_expr_test": []check{
			one(fmt.Sprintf("job_slo:tradestore_errors:ratio_rate5m{slo=%q}", slo), "60m",
				"job_slo:tradestore_errors:ratio_rate5m"+by, 0),
			one(fmt.Sprintf("job_slo:tradestore_errors:ratio_rate5m{slo=%q}", slo), "90m",
				"job_slo:tradestore_errors:ratio_rate5m"+by, 0.5),
			// nothing comes in
			one(fmt.Sprintf("job_slo:tradestore_errors:ratio_rate5m{slo=%q}", slo), "140m",
				"job_slo:tradestore_errors:ratio_rate5m"+by, 0),
			one(fmt.Sprintf("round(job_slo:tradestore_errors:increase1h{slo=%q}, 100)", slo), "90m", by, 900),
			one(fmt.Sprintf("round(job_slo:tradestore_burn:ratio_rate1h{slo=%q}, 5)", slo), "90m", by, burn),
			one(fmt.Sprintf("round(job_slo:tradestore_error_budget:remaining30d{slo=%q})", slo), "60m", by, 1),
			one(fmt.Sprintf("round(job_slo:tradestore_error_budget:remaining30d{slo=%q})", slo), "120m", by, left),
			firing("60m"), firing("90m", fired), firing("96m"),
		}}
	}
	histogram := func(name, process, le string) map[string]string {
		return map[string]string{
			name + "_count" + process:                       all,
			name + "_bucket" + with(process, `le="`+le+`"`): good,
			name + "_bucket" + with(process, `le="+Inf"`):   all,
			name + "_bucket" + with(process, `le="0.005"`):  "0x150",
		}
	}
	requests := func(code string) string {
		return "tradestore_http_requests_total" + with(aServer, `route="/api/v1/trades",method="POST",code="`+code+`"`)
	}
	bulk := func(result string) string {
		return "tradestore_accept_bulk_items_total" + with(aServer, `result="`+result+`"`)
	}
	promtool(t, []any{
		f("accept-availability", "tradestore-server", "TradestoreAcceptAvailabilityBurn", map[string]string{
			requests("202"):     partOfGood,
			requests("400"):     partOfGood,
			bulk("accepted"):    partOfGood,
			bulk("refused"):     partOfGood,
			requests("429"):     partOfBad,
			requests("503"):     partOfBad,
			bulk("unknown"):     partOfBad,
			bulk("unavailable"): partOfBad,
			"tradestore_http_requests_total" + with(aServer, `route="/readyz",method="GET",code="503"`): "0+60x150", // no trade
			"tradestore_http_connections_refused_total" + with(aServer, `code="TOO_MANY_REQUESTS"`):     "0x150",
		}, 250, -124),
		f("accept-latency", "tradestore-server", "TradestoreAcceptLatencyBurn",
			histogram("tradestore_accept_duration_seconds", aServer, "0.1"), 25, -12),
		f("time-to-final", "tradestore-worker", "TradestoreTimeToFinalBurn",
			histogram("tradestore_projection_end_to_end_seconds", aWorker, "1.0"), 25, -12),
		f("time-to-final", "tradestore-worker", "TradestoreTimeToFinalBurn",
			histogram("tradestore_projection_end_to_end_seconds", aWorker, "1"), 25, -12),
	}, "recording.yaml", "alerts.yaml")
}
