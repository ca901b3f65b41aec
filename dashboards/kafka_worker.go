package dashboards

import "github.com/grafana/grafana-foundation-sdk/go/units"

// kafkaAndWorker follows a trade from the log to its outcome.
var kafkaAndWorker = page{
	file: "kafka-worker", uid: "tradestore-worker", title: "Trade Store: Kafka and worker", since: "now-1h",
	refresh: "30s",
	about: "A trade after its 202: the brokers, the wait in the log, the apply transaction, the projection and the " +
		"maintenance.",
	rows: []row{
		{"How far behind", []panel{
			number("Lag", records, above(10_000, 100_000),
				"Records in the log that are not applied yet, over all partitions.",
				q("records", lag)).alert("TradestoreLagOld"),
			number("Age of the lag", units.Seconds, above(10, 60),
				"Time since the oldest trade that waits in the log was accepted. 0 without lag.",
				q("age", `max(tradestore_apply_lag_seconds{@})`)).alert("TradestoreLagOld"),
			number("Drained in", units.Seconds, above(60, 600),
				"Time to apply the lag at the current rate if no records are added. No value: there is lag and nothing is applied.",
				q("estimate", lag+` / (`+applied+` > 0) or `+lag+` == 0`)).alert("TradestoreLagOld"),
			number("Partitions stuck", units.Short, never(),
				"Partitions that have lag and whose position does not move.",
				q("partitions", stuck)).alert("TradestoreConsumerStuck", "TradestoreNothingDecided"),
		}},
		{"Kafka", []panel{
			lines("Into and out of the log", recordsPerSecond, built(),
				"Records produced by the servers and fetched by the workers. Fetched is higher while workers catch up, and "+
					"after a worker starts.",
				q("produced", `sum(rate(tradestore_kafka_produce_records_total{@}[$__rate_interval]))`),
				q("fetched", `sum(rate(tradestore_kafka_fetch_records_total{@}[$__rate_interval]))`)),
			lines("Bytes", units.BytesPerSecondIEC, unjudged(),
				"Bytes of record batches on the wire, compressed if --kafka-compression says so.",
				q("produced", `sum(rate(tradestore_kafka_produce_compressed_bytes_total{@}[$__rate_interval]))`),
				q("fetched", `sum(rate(tradestore_kafka_fetch_compressed_bytes_total{@}[$__rate_interval]))`)),
			lines("Slowest 1 % of requests to brokers", units.Seconds, above(1, 6),
				"From the first byte of a request to the last byte of its answer, by client. Without records a fetch waits up "+
					"to 5 s.",
				slowest("{{client}}", "tradestore_kafka_request_duration_e2e_seconds", "client")),
			lines("Faults of connections", perSecond, rare(),
				"Connections to brokers that failed, and reads and writes that failed. The client retries.",
				q("connect {{client}}", `sum by (client) (rate(tradestore_kafka_connect_errors_total{@}[$__rate_interval]))`),
				q("read {{client}}", `sum by (client) (rate(tradestore_kafka_read_errors_total{@}[$__rate_interval]))`),
				q("write {{client}}", `sum by (client) (rate(tradestore_kafka_write_errors_total{@}[$__rate_interval]))`)),
		}},
		{"Kafka from inside, by its exporter", []panel{
			lines("Lag of the groups", records, above(10_000, 100_000),
				"Records after the group offsets. The group offsets are hints from the workers: the exact lag is at the top. "+
					"This panel also shows a backlog when no worker runs.",
				q("{{group_id}} {{topic_name}}", `sum by (group_id, topic_name) (kminion_kafka_consumer_group_topic_lag)`).
					empty(NeedsExporter)),
			lines("Log on disk", units.BytesIEC, unjudged(),
				"Bytes of each topic over all brokers, replicas included. It is flat when retention deletes as much as the "+
					"servers produce.",
				q("{{topic_name}}", `sum by (topic_name) (kminion_kafka_topic_log_dir_size_total_bytes)`).empty(NeedsExporter)),
			lines("Brokers", units.Short, unjudged(),
				"Brokers that answer. With fewer brokers than replicas per partition, every record has too few copies.",
				q("brokers", `count(kminion_kafka_broker_info)`).empty(NeedsExporter)),
		}},
		{"Poll", []panel{
			lines("Lag by partition", records, above(10_000, 100_000),
				"Records between the position and the end of the log. One high partition means a hot trade id, or a partition "+
					"that no worker reads.",
				q("{{partition}}", `max by (partition) (tradestore_apply_lag_records{@})`)),
			lines("Age of the lag by partition", units.Seconds, above(10, 60),
				"Time since the oldest trade that waits in the partition was accepted.",
				q("{{partition}}", `max by (partition) (tradestore_apply_lag_seconds{@})`)).alert("TradestoreLagOld"),
			spread("From acceptance to poll", above(0.5, 1),
				"Time from the acceptance of a trade until a lane has its record: server, Kafka, and the wait behind earlier "+
					"records.",
				"tradestore_apply_poll_delay_seconds", ""),
			lines("Partitions held", units.Short, unjudged(),
				"Partitions that each worker reads, and the number of partitions of the topic. If the sum stays below that "+
					"number, no worker reads some of them.",
				q("{{instance}}", `tradestore_apply_partitions{@}`),
				q("of the topic", `max(tradestore_apply_topic_partitions{@})`)).alert("TradestorePartitionsUnread"),
		}},
		{"Apply", []panel{
			lines("Applied", recordsPerSecond, built(),
				"Records in committed transactions. The line at 1,000 is the load that Trade Store is built for.",
				q("{{instance}}", `rate(tradestore_apply_batch_records_sum{@}[$__rate_interval])`)),
			spread("Transactions", above(1, 10),
				"Time of the apply transactions that committed. After --transaction-limit, 20 s, a batch is halved.",
				"tradestore_apply_duration_seconds", `result="ok"`),
			lines("Records per transaction", records, above(5000, 10_000),
				"Transactions grow with the backlog. Transactions of --max-poll-records (10,000) mean that the workers catch up.",
				sizes("tradestore_apply_batch_records")...),
			lines("Lanes busy", units.PercentUnit, above(0.7, 0.9),
				"Share of the time that the lanes of a worker spend in transactions. Near 100 % the lag grows. If "+
					"transactions take a second or more, one lane works at a time, and the lag grows near the share of one lane.",
				q("{{instance}}", busy)).alert("TradestoreLagOld"),
			lines("Decided", tradesPerSecond, unjudged(),
				"Requests decided, by status and reason. A stale version is no fault. INVALID_RECORD and NOT_DELIVERED are faults.",
				q("{{status}} {{reason}}", `sum by (status, reason) (rate(tradestore_apply_outcomes_total{@}[$__rate_interval]))`)).
				alert("TradestoreNothingDecided"),
			lines("Repeated and dropped", perSecond, rare(),
				"Retries by error class, duplicate records, batches dropped at the fence, and batches halved.",
				q("repeated: {{class}}", `sum by (class) (rate(tradestore_apply_retries_total{@}[$__rate_interval]))`),
				q("duplicates", `sum(rate(tradestore_apply_duplicates_total{@}[$__rate_interval]))`),
				q("fenced", `sum(rate(tradestore_apply_fenced_total{@}[$__rate_interval]))`),
				q("halved", `sum(rate(tradestore_apply_splits_total{@}[$__rate_interval]))`),
				q("group offset not committed", `sum(rate(tradestore_apply_group_commit_errors_total{@}[$__rate_interval]))`)).
				alert("TradestoreFenceLost"),
			lines("Could not be stored", recordsPerSecond, never(),
				"Dead letters, and records that PostgreSQL refused. Look at each dead letter. 100 refused records in a row "+
					"stop the worker.",
				q("dead letters", `sum(rate(tradestore_apply_dead_letters_total{@}[$__rate_interval]))`),
				q("refused", `sum(rate(tradestore_apply_refused_records_total{@}[$__rate_interval]))`)).
				alert("TradestoreDeadLetters"),
			number("Refused in a row", records, above(1, 50),
				"Records that PostgreSQL refused in a row. At 100 the worker stops, because the schema has probably changed.",
				q("{{instance}}", `tradestore_apply_refused_in_a_row{@}`)).alert("TradestoreLoudStop"),
		}},
		{"Project", []panel{
			lines("Shown to clients", tradesPerSecond, unjudged(),
				"Outcomes that became visible in the request store, per second.",
				q("{{status}}", `sum by (status) (rate(tradestore_projection_outcomes_total{@}[$__rate_interval]))`)),
			spread("From acceptance to visible", above(0.5, 1),
				"Time until a client that polls sees the outcome. The objective is 1 s for 99 % of the trades.",
				"tradestore_projection_end_to_end_seconds", "").alert("TradestoreTimeToFinalBurn"),
			lines("Oldest outcome not shown", units.Seconds, above(10, 60),
				"Age of the oldest decided outcome that clients cannot see yet: the lag of the project cursor.",
				q("{{instance}}", `tradestore_projection_lag_seconds{@}`)).alert("TradestoreProjectionBehind"),
			lines("Steps of the projector", units.Seconds, above(0.5, 5),
				"The 99th percentiles of one step and of the time from decision to visible. Empty with the request store in "+
					"PostgreSQL, where both are one commit.",
				quantile("step", 0.99, "tradestore_projection_duration_seconds", "").empty(onlyDynamoDB),
				quantile("decision to visible", 0.99, "tradestore_projection_delay_seconds", "").empty(onlyDynamoDB),
				q("steps that failed per second", `sum(rate(tradestore_projection_errors_total{@}[$__rate_interval]))`)),
			lines("Outcomes that are refused", perSecond, never(),
				"Outcomes that the request store refused while it took others. The cursor passes them; their requests stay "+
					"PENDING, and the orphan reaper tries again.",
				q("refused", `sum(rate(tradestore_projection_refused_total{@}[$__rate_interval]))`)).
				alert("TradestoreOutcomeNotShown"),
		}},
		{"Orphans and retention", []panel{
			lines("Requests that stay PENDING", units.Short, rare(),
				"PENDING requests that the orphan reaper watches, by the condition it waits for before it closes them.",
				q("waits for {{waits_for}}", `sum by (waits_for) (tradestore_orphan_pending_requests{@})`)).
				alert("TradestorePendingOld", "TradestorePendingUnprovable", "TradestoreOrphanReaperActive"),
			lines("Decided, but not shown", units.Short, never(),
				"Requests that stay PENDING although they have an outcome, because the request store did not take it.",
				q("requests", `sum(tradestore_orphan_unshown_requests{@})`)).alert("TradestoreOutcomeNotShown"),
			lines("Oldest PENDING", units.Seconds, above(60, 300),
				"Age of the oldest of them. Without a fault, a request is closed soon after --orphan-after, 60 s.",
				q("{{instance}}", `tradestore_orphan_oldest_seconds{@}`)).alert("TradestorePendingOld"),
			lines("Orphan reaper", perSecond, rare(),
				"Requests closed as NOT_DELIVERED, missing outcomes that the reaper projected, and failed passes.",
				q("closed", `sum(rate(tradestore_orphan_closed_total{@}[$__rate_interval]))`),
				q("shown", `sum(rate(tradestore_orphan_projected_total{@}[$__rate_interval]))`),
				q("failed", `sum(rate(tradestore_orphan_errors_total{@}[$__rate_interval]))`)).
				alert("TradestoreOrphanReaperActive"),
			lines("Time since the last sweep", units.Seconds, above(2*3600, 24*3600),
				"Time since a worker last deleted days and rows past their retention. A sweep runs every 1 h. If sweeps fail, "+
					"the disk fills. And summaries of 64 pages of the journal or the requests: without them a history takes longer.",
				q("sweep", `time() - max(tradestore_sweep_last_success_timestamp_seconds{@} > 0)`),
				q("sweeps that failed per second", `sum(rate(tradestore_sweep_errors_total{@}[$__rate_interval]))`),
				q("summaries per second", `sum(rate(tradestore_summary_ranges_total{@}[$__rate_interval]))`),
				q("summaries that failed per second", `sum(rate(tradestore_summary_errors_total{@}[$__rate_interval]))`)).
				alert("TradestoreUpkeepFailing"),
		}},
	},
}

// lag is the number of records that are not applied.
const lag = `sum(tradestore_apply_lag_records{@})`

// applied is the rate of records in committed transactions.
const applied = `sum(rate(tradestore_apply_batch_records_sum{@}[$__rate_interval]))`

// busy is the share of the lanes' time that passes in transactions, by worker.
const busy = `sum by (instance) (rate(tradestore_apply_duration_seconds_sum{@}[$__rate_interval])) / (sum by ` +
	`(instance) (tradestore_apply_lanes{@}) > 0)`
