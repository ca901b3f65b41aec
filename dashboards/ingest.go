package dashboards

import "github.com/grafana/grafana-foundation-sdk/go/units"

const stages = "tradestore_accept_stage_duration_seconds"

// ingest follows a trade through the server, from its arrival to the 202.
var ingest = page{
	file: "ingest", uid: "tradestore-ingest", title: "Trade Store: ingest", since: "now-1h", refresh: "30s",
	about: "A trade in the server: HTTP, refusals, the queue, the version look-up, PENDING, Kafka, and the answer.",
	rows: []row{
		{"HTTP", []panel{
			lines("Requests", units.RequestsPerSecond, built(),
				"Requests answered, by method and route. The line at 1,000 is the load that Trade Store is built for.",
				q("{{method}} {{route}}",
					`sum by (method, route) (rate(tradestore_http_requests_total{@}[$__rate_interval]) > 0)`)),
			lines("Answers to submitted trades", units.RequestsPerSecond, unjudged(),
				"Answers of POST /api/v1/trades by status code, and trades of bulk requests by what their client was told. "+
					"4xx is a mistake of the client. 5xx, 429, unavailable and unknown count against the objective.",
				q("{{code}}",
					`sum by (code) (rate(tradestore_http_requests_total{@,route="/api/v1/trades",method="POST"}[$__rate_interval]))`),
				q("bulk: {{result}}", `sum by (result) (rate(tradestore_accept_bulk_items_total{@}[$__rate_interval]))`)).
				alert("TradestoreAcceptAvailabilityBurn"),
			spread("Time to the 202", above(0.05, 0.1),
				"From the arrival of a trade to its 202. The objective is 100 ms for 99 % of them.",
				"tradestore_accept_duration_seconds", "").alert("TradestoreAcceptLatencyBurn"),
			heat("Times to the 202", units.Seconds,
				"Distribution of the time from arrival to 202. Two bands mean two kinds of requests. A band that rises means "+
					"a queue that grows.",
				"tradestore_accept_duration_seconds", ""),
			lines("Slowest 1 % by route", units.Seconds, above(0.1, 1),
				"The 99th percentile of the time from the end of reading a request to its answer, for all statuses.",
				slowest("{{method}} {{route}}", "tradestore_http_request_duration_seconds", "method, route")),
			lines("Requests in flight", units.Short, above(4000, 8000),
				"Requests that the servers are working on, over all routes.",
				q("{{instance}}", `sum by (instance) (tradestore_http_requests_in_flight{@})`)),
			lines("Connections", units.PercentUnit, above(0.7, 0.9),
				"Open connections as a share of --max-conns.",
				q("{{instance}}", `tradestore_http_connections{@} / tradestore_http_connections_limit{@}`)),
			lines("Connections refused", perSecond, rare(),
				"Connections refused because too many were open, in total or from one address, or because the process or the "+
					"machine had no descriptors or memory left.",
				q("{{code}}", `sum by (code) (rate(tradestore_http_connections_refused_total{@}[$__rate_interval]))`),
				q("no descriptors or memory", `sum(rate(tradestore_http_accept_errors_total{@}[$__rate_interval]))`)),
			lines("Connections closed to make room", perSecond, rare(),
				"Idle connections that were closed, the longest idle first, because the server is near --max-conns.",
				q("{{instance}}", `rate(tradestore_http_connections_evicted_total{@}[$__rate_interval])`)).
				alert("TradestoreConnectionsFull"),
			lines("Reads of the past", units.PercentUnit, above(0.7, 0.9),
				"Reads of histories, and of trades as of an instant, as a share of those that may run at once.",
				q("{{instance}}", `tradestore_past_reads{@} / tradestore_past_reads_limit{@}`)).
				alert("TradestoreReadsThrottled"),
			lines("Exports", perSecond, unjudged(),
				"Exports by how they ended: whole, slow (the client did not take it fast enough), left (the client hung up), "+
					"or failed.",
				q("{{result}}", `sum by (result) (rate(tradestore_http_exports_total{@}[$__rate_interval]))`)),
		}},
		{"Refusals", []panel{
			lines("Refused by reason", units.RequestsPerSecond, unjudged(),
				"Requests refused or failed, by the code of the answer. docs/api.md says what each means.",
				q("{{code}}", `sum by (code) (rate(tradestore_http_problems_total{@}[$__rate_interval])) > 0`).
					empty("no request is refused; filled by a body that breaks a rule")),
			lines("Shed by cause", tradesPerSecond, above(0.1, 1),
				"Trades refused with 503 before any store call. items, bytes: the queue is full. late: the queue moves too "+
					"slowly. partition: the log takes no records of it. closed: the server drains.",
				q("{{cause}}", `sum by (cause) (rate(tradestore_accept_shed_total{@}[$__rate_interval]))`)).
				alert("TradestoreShedSustained"),
			lines("Partitions refused", units.Short, rare(),
				"Partitions of the log that take no records: their trades are refused with 503 before anything is stored. "+
					"Now and then one trade passes, to see whether the partition takes records again.",
				q("{{instance}}", `sum by (job, instance) (tradestore_accept_partition_shut{@})`)).
				alert("TradestorePartitionShut"),
			lines("Panics", perSecond, never(),
				"Panics that were caught. Each is a bug and answered one request with 500. The log has its stack.",
				q("{{instance}}", `rate(tradestore_http_panics_total{@}[$__rate_interval])`)),
		}},
		{"Queue", []panel{
			lines("Trades that wait", trades, unjudged(),
				"Trades that wait for a flush. A few are normal: they form the next batch while the flushes are busy.",
				q("{{instance}}", `tradestore_accept_queue_items{@}`)),
			lines("Room used", units.PercentUnit, above(0.5, 0.9),
				"Trades and bytes between arrival and answer, as a share of --queue-items and --queue-bytes. At 100 % trades "+
					"are shed.",
				q("trades {{instance}}", `tradestore_accept_in_flight{@} / tradestore_accept_in_flight_limit{@}`),
				q("bytes {{instance}}", `tradestore_accept_in_flight_bytes{@} / tradestore_accept_in_flight_limit_bytes{@}`)).
				alert("TradestoreShedSustained"),
			spread("Wait", above(0.05, 0.375),
				"Time a trade waited for a flush. From 375 ms on, an eighth of the default --accept-deadline, trades may be shed.",
				"tradestore_accept_queue_wait_seconds", ""),
			lines("Batches", trades, above(256, 512),
				"Trades per flush. Batches grow with the load. Batches of --max-batch (512) mean that the flushes do not keep up.",
				sizes("tradestore_accept_batch_size")...),
		}},
		{"Version look-up", []panel{
			spread("Look-up", above(0.05, 0.1),
				"Time to look up the highest stored versions for a batch. After 100 ms the batch continues without them.",
				stages, `stage="lookup"`),
			lines("Look-ups given up", perSecond, rare(),
				"Look-ups that failed or took too long. Nothing is lost: the worker also refuses low versions, only later.",
				q("{{instance}}", `rate(tradestore_accept_lookups_failed_open_total{@}[$__rate_interval])`)),
		}},
		{"PENDING", []panel{
			spread("Opening a batch", above(0.1, 1),
				"Time to write a batch to the request store as PENDING. After two thirds of the accept deadline (2 s) its "+
					"requests are answered 503.",
				stages, `stage="open"`),
			lines("Flushes", perSecond, unjudged(),
				"Batches that were opened and produced. An idle server flushes each trade alone.",
				q("{{instance}}", `rate(tradestore_accept_batch_size_count{@}[$__rate_interval])`)),
			lines("Idempotency keys", units.RequestsPerSecond, unjudged(),
				"Requests with an idempotency key, by result. A key is exhausted after 16 attempts that were not delivered.",
				q("{{result}}", `sum by (result) (rate(tradestore_accept_keyed_total{@}[$__rate_interval]))`)),
		}},
		{"Kafka", []panel{
			spread("Producing a record", above(0.1, 1),
				"Time until every in-sync replica has acknowledged a record.",
				stages, `stage="produce"`),
			lines("Acknowledged", tradesPerSecond, built(),
				"Trades that Kafka has acknowledged: the accepted trades.",
				q("{{instance}}", `rate(tradestore_accept_delivered_total{@}[$__rate_interval])`)),
			lines("Waiting in the producer", records, above(1000, 5000),
				"Records in the Kafka client that are not acknowledged yet.",
				q("{{instance}}",
					`sum by (instance) (tradestore_kafka_buffered_produce_records_total{@,client="tradestore-server"})`)),
		}},
		{"Answer", []panel{
			lines("Not known", tradesPerSecond, rare(),
				"Requests answered 503 with an id: PENDING was sent, but no acknowledgement came in time. By the stage that "+
					"failed. The record decides each of them, or the orphan reaper closes it.",
				q("{{stage}}", `sum by (stage) (rate(tradestore_accept_unknown_total{@}[$__rate_interval]))`)).
				alert("TradestoreOrphanReaperActive"),
			lines("Errors of the objective", units.PercentUnit, above(0.001, 0.01),
				"Share of submitted trades answered 5xx or 429. The objective allows 0.1 %.",
				q("errors",
					`sum(rate(tradestore_http_requests_total{@,route="/api/v1/trades",method="POST",code=~"5..|429"}`+
						`[$__rate_interval])) / `+
						`(sum(rate(tradestore_http_requests_total{@,route="/api/v1/trades",method="POST"}[$__rate_interval])) > 0)`)).
				alert("TradestoreAcceptAvailabilityBurn"),
		}},
	},
}
