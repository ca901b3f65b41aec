package dashboards

import (
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/units"
)

// loadTest shows a run of `tradestore loadtest` from the side of the system under test. The report of the run has what
// only the generator knows, such as the time since a trade was due.
var loadTest = page{
	file: "loadtest", uid: "tradestore-loadtest", title: "Trade Store: load test", since: "now-15m", refresh: "5s",
	about: "A load test while it runs, as servers and workers see it. The verdict is in the report of " +
		"`tradestore loadtest`.",
	variables: []cog.Builder[dashboard.VariableModel]{capacity},
	rows: []row{
		{"Does it hold?", []panel{
			number("Accepted", tradesPerSecond, built(),
				"Trades accepted per second. The default load is 1,000 operations per second. Four in five are trades that "+
					"must be accepted.",
				q("accepted", accepted)),
			number("Accepted within", units.Seconds, above(0.05, 0.1),
				"The 99th percentile from the arrival of a trade to its 202. The objective of the load test is 100 ms, from "+
					"when the trade was due.",
				quantile("p99", 0.99, "tradestore_accept_duration_seconds", "")),
			number("Final within", units.Seconds, above(0.5, 1),
				"The 99th percentile from the acceptance of a trade to its visible outcome. The objective of the load test is 1 s.",
				quantile("p99", 0.99, "tradestore_projection_end_to_end_seconds", "")),
			number("Errors", units.PercentUnit, above(0.0005, 0.001),
				"Share of all requests that were answered 5xx or 429. The objective of the load test is 0.1 %.",
				q("errors", `sum(rate(tradestore_http_requests_total{@,code=~"5..|429"}[$__rate_interval])) / `+
					`(sum(rate(tradestore_http_requests_total{@}[$__rate_interval])) > 0)`)),
		}},
		{"Load", []panel{
			lines("From arrival to outcome", tradesPerSecond, built(),
				"Submitted, accepted, stored and visible trades. Submitted is higher, because the mix includes trades that "+
					"must be refused. The other lines must overlap.",
				q("submitted",
					`sum(rate(tradestore_http_requests_total{@,route="/api/v1/trades",method="POST"}[$__rate_interval]))`),
				q("accepted", accepted),
				q("stored", decided),
				q("visible", `sum(rate(tradestore_projection_outcomes_total{@}[$__rate_interval]))`)),
			lines("Answers", units.RequestsPerSecond, unjudged(),
				"All operations of the mix by their answer: new trades, versions, bad bodies and reads.",
				q("{{method}} {{code}}", `sum by (method, code) `+
					`(rate(tradestore_http_requests_total{@,route=~"/api/.*"}[$__rate_interval]) > 0)`)),
			lines("Shed and refused", tradesPerSecond, rare(),
				"Trades shed because the queue was full, and connections refused. In a capacity search this marks the limit.",
				q("shed: {{cause}}", `sum by (cause) (rate(tradestore_accept_shed_total{@}[$__rate_interval]))`),
				q("connections: {{code}}", `sum by (code) (rate(tradestore_http_connections_refused_total{@}[$__rate_interval]))`)),
			lines("Capacity used", units.PercentUnit, above(0.6, 0.8),
				"Accepted trades as a share of the capacity at the top of this dashboard.",
				q("used", accepted+` / $capacity`)),
		}},
		{"Latency", []panel{
			lines("Accepting", units.Seconds, above(0.05, 0.1),
				"From the arrival of a trade to its 202. The report counts from the due time, which adds the time of "+
					"generator and network.",
				percentiles("tradestore_accept_duration_seconds")...),
			lines("Final", units.Seconds, above(0.5, 1),
				"From the acceptance of a trade to the moment from which clients can read its outcome.",
				percentiles("tradestore_projection_end_to_end_seconds")...),
			lines("Mean time of each hop", units.Seconds, above(0.1, 1),
				"In the order in which a trade travels. The time in the log counts from the acceptance. The hop that grows "+
					"first with the load is the bottleneck.",
				hops()...),
		}},
		{"Is the worker keeping up?", []panel{
			lines("Lag", records, above(10_000, 100_000),
				"Records in the log that are not applied yet. Under a sustainable load the line is flat.",
				q("records", lag)),
			lines("Age of the lag", units.Seconds, above(1, 10),
				"Time since the oldest trade that waits in the log was accepted.",
				q("age", `max(tradestore_apply_lag_seconds{@})`)),
			lines("In flight", trades, above(4096, 8192),
				"Trades between arrival and answer. By Little's law: rate times time to the answer.",
				q("{{instance}}", `tradestore_accept_in_flight{@}`)),
			lines("Batches", records, unjudged(),
				"Mean size of a flush and of an apply transaction. Both grow with the load, so the cost per trade falls.",
				mean("per flush", "tradestore_accept_batch_size", ""),
				mean("per transaction", "tradestore_apply_batch_records", "")),
		}},
		{"What saturates first?", []panel{
			lines("Processor", cores, above(2, 4),
				"Cores used by each process. The report shows what the generator, the stores and the brokers use on the same "+
					"machine.",
				q("{{job}} {{instance}}", `rate(process_cpu_seconds_total{@}[$__rate_interval])`)),
			lines("Lanes busy", units.PercentUnit, above(0.7, 0.9),
				"Share of the time that the lanes of a worker spend in transactions.",
				q("{{instance}}", busy)),
			lines("Waits for connections to PostgreSQL", "suffix: waiting", above(0.5, 1),
				"Average number of callers that wait for a connection, by pool.",
				q("{{pool}}", `sum by (pool) (rate(tradestore_postgres_pool_acquire_wait_seconds_total{@}[$__rate_interval]))`)),
			lines("Resident memory", units.BytesIEC, above(150<<20, 512<<20),
				"Memory of each process. The goal is to stay below 150 MiB under sustained load.",
				q("{{job}} {{instance}}", `process_resident_memory_bytes{@}`)),
		}},
	},
}

// percentiles are what the report of a load test shows of a histogram.
func percentiles(histogram string) []query {
	return []query{
		quantile("p50", 0.5, histogram, ""),
		quantile("p90", 0.9, histogram, ""),
		quantile("p99", 0.99, histogram, ""),
		quantile("p99.9", 0.999, histogram, ""),
	}
}
