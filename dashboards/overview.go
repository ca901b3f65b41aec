package dashboards

import "github.com/grafana/grafana-foundation-sdk/go/units"

// overview answers: do the objectives hold, is every accepted trade stored, is anything late or stuck, where does the
// time go?
var overview = page{
	file: "overview", uid: "tradestore-overview", title: "Trade Store: overview and objectives", since: "now-6h",
	refresh: "30s",
	about: "Whether the objectives hold, whether what was accepted is stored, what is late or stuck, and where the " +
		"time goes.",
	rows: []row{
		{"Objectives", []panel{
			objective("Accepted without an error, 30 d", "accept-availability", below(0.9995, 0.999),
				"Share of submitted trades that were answered other than by 5xx or 429. The objective is 99.9 %.").
				alert("TradestoreAcceptAvailabilityBurn"),
			objective("Accepted within 100 ms, 30 d", "accept-latency", below(0.995, 0.99),
				"Share of submitted trades that were answered within 100 ms. The objective is 99 %.").
				alert("TradestoreAcceptLatencyBurn"),
			objective("Final within 1 s, 30 d", "time-to-final", below(0.995, 0.99),
				"Share of accepted trades that were decided within 1 s of their acceptance. The objective is 99 %.").
				alert("TradestoreTimeToFinalBurn"),
			number("Processes down", units.Short, never(),
				"Servers and workers that the last scrape did not reach. A process that is not scraped at all shows only as "+
					"an alert.",
				q("down", `count(up{@} == 0) or vector(0)`)).alert("TradestoreTargetDown", "TradestoreAbsent"),
		}},
		{"Error budget", []panel{
			lines("Error budget left, 30 d", units.PercentUnit, below(0.25, 0),
				"Remaining error budget of 30 days. 100 %: no errors. Below 0: the objective is missed.",
				q("{{slo}} ({{job}})", `job_slo:tradestore_error_budget:remaining30d{job=~"$job"}`)),
			lines("Burn rate", "suffix: x", above(1, 6),
				"How fast the budget is used. At 1 it lasts exactly 30 days. An alert pages at 14.4 over one hour and at 6 "+
					"over six hours, from ten bad trades on.",
				q("{{slo}}, 1 h", `max by (slo) (job_slo:tradestore_burn:ratio_rate1h{job=~"$job"})`),
				q("{{slo}}, 6 h", `max by (slo) (job_slo:tradestore_burn:ratio_rate6h{job=~"$job"})`)).
				alert("TradestoreAcceptAvailabilityBurn", "TradestoreAcceptLatencyBurn", "TradestoreTimeToFinalBurn"),
		}},
		{"Is everything that is accepted stored?", []panel{
			lines("Accepted and stored", tradesPerSecond, built(),
				"Both lines must overlap. Accepted: acknowledged by every in-sync replica. Stored: decided in PostgreSQL, "+
					"stale versions included. The line at 1,000 is the load that Trade Store is built for.",
				q("accepted", accepted), q("stored", decided)).alert("TradestoreNothingDecided"),
			lines("Reconciliation gap", units.PercentUnit, above(0.01, 0.05),
				"Share of the accepted trades that are neither decided nor in the log. It moves around 0 while the load "+
					"changes. A constant value above 0 means lost trades, or transactions that committed without an answer and "+
					"were not counted: run `tradestore check`. Without a worker the lag is unknown, and every accepted trade counts.",
				q("gap", `(`+accepted+` - `+decided+` - (sum(deriv(tradestore_apply_lag_records{@}[$__rate_interval])) or `+
					`vector(0))) / (`+accepted+` > 0)`)),
		}},
		{"How long does it take?", []panel{
			spread("Until it is accepted", above(0.05, 0.1),
				"From the arrival of a trade to its 202, for those that got one. The objective is 100 ms for 99 % of them.",
				"tradestore_accept_duration_seconds", "").alert("TradestoreAcceptLatencyBurn"),
			spread("Until it is final", above(0.5, 1),
				"From the acceptance of a trade to the moment from which clients can read its outcome. The objective is 1 s "+
					"for 99 % of them.",
				"tradestore_projection_end_to_end_seconds", "").alert("TradestoreTimeToFinalBurn"),
		}},
		{"Is anything late, stuck or lost?", []panel{
			number("Oldest PENDING", units.Seconds, above(60, 300),
				"Age of the oldest PENDING request that no server can answer with 202 any more. 0 if there is none.",
				q("age", `max(tradestore_orphan_oldest_seconds{@})`)).alert("TradestorePendingOld", "TradestoreOrphanReaperActive"),
			number("Oldest record not applied", units.Seconds, above(10, 60),
				"Time since the oldest trade that waits in the log was accepted. 0 without lag.",
				q("age", `max(tradestore_apply_lag_seconds{@})`)).alert("TradestoreLagOld"),
			number("Partitions stuck", units.Short, never(),
				"Partitions that have lag and whose position does not move.",
				q("partitions", stuck)).alert("TradestoreConsumerStuck"),
			number("Oldest outcome not shown", units.Seconds, above(10, 60),
				"Age of the oldest decided outcome that clients cannot see yet. 0 if there is none.",
				q("age", `max(tradestore_projection_lag_seconds{@})`)).alert("TradestoreProjectionBehind"),
			number("Shed", tradesPerSecond, above(0.1, 1),
				"Trades refused with a 503 before any store was asked, because the queue was full or too slow.",
				q("trades", `sum(rate(tradestore_accept_shed_total{@,cause!="closed"}[$__rate_interval]))`)).
				alert("TradestoreShedSustained"),
			number("Dead letters", perSecond, never(),
				"Records that could not be stored. Each is a FAILED request of a client, or a record without a request.",
				q("records", `sum(rate(tradestore_apply_dead_letters_total{@}[$__rate_interval]))`)).alert("TradestoreDeadLetters"),
			number("Checks failed", units.Short, never(),
				"Failed checks of topic, database and schema. The process that finds one stops.",
				q("checks", `sum(tradestore_checks{@,status="failed"})`)).alert("TradestoreCheckFailed",
				"TradestoreLoudStop"),
			number("Checks that could not be made", units.Short, rare(),
				"Checks whose store did not answer. Nothing is lost while a store is down: trades are refused or wait in the log.",
				q("checks", `sum(tradestore_checks{@,status="unknown"})`)).alert("TradestoreStoreUnreachable"),
		}},
		{"Where does the time go?", []panel{
			lines("Mean time of each hop", units.Seconds, above(0.1, 1),
				"In the order in which a trade travels. The time in the log counts from the acceptance, so it includes the "+
					"hops before it. "+
					"With the request store in PostgreSQL an outcome is visible at once, so there is no projection.",
				hops()...),
		}},
	},
}

// The two lines that must overlap.
const (
	accepted = `sum(rate(tradestore_accept_delivered_total{@}[$__rate_interval]))`
	// no worker stores nothing
	decided = `(sum(rate(tradestore_apply_outcomes_total{@,reason!="NOT_DELIVERED"}[$__rate_interval])) or vector(0))`
)

// stuck counts the partitions with lag whose position stands still.
const stuck = `count((max by (partition) (tradestore_apply_lag_records{@}) > 0)` +
	` and on (partition) (max by (partition) (changes(tradestore_apply_position{@}[$__rate_interval])) == 0)) or vector(0)`

// objective shows the share of good events of an objective's whole window.
func objective(title, slo string, limits limits, about string) panel {
	return number(title, units.PercentUnit, limits, about,
		q("{{job}}", `1 - job_slo:tradestore_errors:ratio_rate30d{job=~"$job",slo="`+slo+`"}`))
}

// hops are the mean times of the hops of a trade.
func hops() []query {
	const stage = "tradestore_accept_stage_duration_seconds"
	return []query{
		mean("1 queue", "tradestore_accept_queue_wait_seconds", ""),
		mean("2 version look-up", stage, `stage="lookup"`),
		mean("3 PENDING", stage, `stage="open"`),
		mean("4 produce", stage, `stage="produce"`),
		mean("5 acceptance to poll", "tradestore_apply_poll_delay_seconds", ""),
		mean("6 apply", "tradestore_apply_duration_seconds", `result="ok"`),
		mean("7 project", "tradestore_projection_delay_seconds", "").empty(onlyDynamoDB),
	}
}

// onlyDynamoDB is why some series have no values.
const onlyDynamoDB = "the request store is in PostgreSQL; filled with --request-store dynamodb"
