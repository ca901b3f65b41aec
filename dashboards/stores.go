package dashboards

import "github.com/grafana/grafana-foundation-sdk/go/units"

// stores shows PostgreSQL and DynamoDB as Trade Store sees them: its connections and its calls.
var stores = page{
	file: "stores", uid: "tradestore-stores", title: "Trade Store: PostgreSQL and DynamoDB", since: "now-1h",
	refresh: "30s",
	about: "The stores as servers and workers see them: whether they answer, pass the checks and have enough " +
		"connections.",
	rows: []row{
		{"Do the stores answer and pass the checks?", []panel{
			lines("Probes that fail", units.Short, never(),
				"Checks of /readyz that failed at the last request. Load balancers send no traffic to such a server.",
				q("{{check}} {{instance}}", `1 - tradestore_health_check_up{@}`)).alert("TradestoreStoreUnreachable"),
			lines("Checks that could not be made", units.Short, rare(),
				"Checks of topic, database and request store that got no answer in the last round.",
				q("{{rule}} {{instance}}", `sum by (rule, instance) (tradestore_checks{@,status="unknown"})`)).
				alert("TradestoreStoreUnreachable"),
			lines("Checks that failed", units.Short, never(),
				"Failed checks, by rule of docs/design.md. The process that finds one exits after 30 s, so the line is short.",
				q("{{rule}} {{instance}}", `sum by (rule, instance) (tradestore_checks{@,status="failed"})`)).
				alert("TradestoreCheckFailed", "TradestoreLoudStop"),
			lines("Errors of the apply transaction", perSecond, rare(),
				"Apply transactions that PostgreSQL did not commit, by error class.",
				q("{{result}}",
					`sum by (result) (rate(tradestore_apply_duration_seconds_count{@,result!="ok"}[$__rate_interval]))`)),
		}},
		{"Is a failover under way, and are the clocks right?", []panel{
			lines("Checks that are not confirmed", units.Short, rare(),
				"Checks that fail as in a failover: only a standby answers, or a leader does not have all of the log. A process "+
					"stops when it has seen this for two minutes.",
				q("{{rule}} {{instance}}", `sum by (rule, instance) (tradestore_checks{@,status="unconfirmed"})`)).
				alert("TradestoreCheckUnconfirmed"),
			lines("Warnings", units.Short, rare(),
				"Checks that should hold and stop nothing. `tradestore check` names them.",
				q("{{rule}} {{instance}}", `sum by (rule, instance) (tradestore_checks{@,status="warning"})`)),
			lines("Clocks", units.Seconds, above(5, 30),
				"How far the clock of each process is at least from the clock of a store. Over 30 s nothing is deleted.",
				q("{{store}} {{instance}}", `max by (store, instance) (abs(tradestore_clock_skew_seconds{@}))`)).
				alert("TradestoreClockSkewed", "TradestoreClockWrong"),
		}},
		pool("PostgreSQL: version look-ups and reads", "tradestore-reads"),
		pool("PostgreSQL: PENDING and status reads", "tradestore-requests"),
		pool("PostgreSQL: apply and project", "tradestore-apply"),
		pool("PostgreSQL: days, retention, orphan reaper", "tradestore-maintainer"),
		{"PostgreSQL from inside, by its exporter", []panel{
			lines("Sessions", units.Short, unjudged(),
				"Sessions of all databases by state. A session that is idle in transaction holds locks and waits for its client.",
				q("{{state}}", `sum by (state) (pg_stat_activity_count)`).empty(NeedsExporter)),
			lines("Transactions", perSecond, unjudged(),
				"Transactions that ended, over all databases. A few rollbacks are normal: a lost fence or a retry.",
				q("committed", `sum(rate(pg_stat_database_xact_commit[$__rate_interval]))`).empty(NeedsExporter),
				q("rolled back", `sum(rate(pg_stat_database_xact_rollback[$__rate_interval]))`).empty(NeedsExporter)),
			lines("Pages read from outside its buffers", units.PercentUnit, above(0.05, 0.2),
				"Share of pages that were not in shared_buffers. If it grows with the tables, give PostgreSQL more memory.",
				q("share", `sum(rate(pg_stat_database_blks_read[$__rate_interval])) / `+
					`(sum(rate(pg_stat_database_blks_read[$__rate_interval])) + `+
					`sum(rate(pg_stat_database_blks_hit[$__rate_interval])) > 0)`).
					empty(NeedsExporter)),
			lines("Size", units.BytesIEC, unjudged(),
				"Size of each database on disk. Days past their retention are dropped as whole partitions. Trades stay.",
				q("{{datname}}", `sum by (datname) (pg_database_size_bytes)`).empty(NeedsExporter)),
		}},
		{"DynamoDB", []panel{
			lines("Calls", perSecond, unjudged(),
				"Calls to DynamoDB by operation. A BatchWriteItem opens up to 25 requests, a BatchExecuteStatement ends up to 25.",
				q("{{operation}}", `sum by (operation) (rate(tradestore_dynamodb_requests_total{@}[$__rate_interval]) > 0)`).
					empty(onlyDynamoDB)),
			lines("Slowest 1 % of calls", units.Seconds, above(0.1, 1),
				"The 99th percentile of the time of a call, by operation.",
				slowest("{{operation}}", "tradestore_dynamodb_request_duration_seconds", "operation").empty(onlyDynamoDB)),
			lines("Calls that did not end well", perSecond, rare(),
				"Calls by result. After an unknown result the effect is unknown, and only calls that are safe to repeat are "+
					"repeated.",
				q("{{operation}} {{result}}", `sum by (operation, result) `+
					`(rate(tradestore_dynamodb_requests_total{@,result!~"ok|condition"}[$__rate_interval]) > 0)`).
					empty("no call fails; filled by stopping DynamoDB")),
			lines("Items not taken", itemsPerSecond, rare(),
				"Items that DynamoDB refused for lack of capacity or left out of a batch. They are retried with backoff.",
				q("refused {{operation}}",
					`sum by (operation) (rate(tradestore_dynamodb_throttled_items_total{@}[$__rate_interval]))`).empty(onlyDynamoDB),
				q("left out", `sum(rate(tradestore_dynamodb_unprocessed_items_total{@}[$__rate_interval]))`).empty(onlyDynamoDB)),
			lines("Outcomes whose request was not PENDING", perSecond, rare(),
				"Same: the request had this outcome already. Missing: the request is past its retention or was never opened.",
				q("{{found}}",
					`sum by (found) (rate(tradestore_dynamodb_condition_failures_total{@,found!="conflict"}[$__rate_interval]))`).
					empty(onlyDynamoDB)),
			number("Conflicting outcomes", perSecond, never(),
				"Outcomes whose request has another outcome already. A rule of the design is broken, or a record was forged.",
				q("conflicts", `sum(rate(tradestore_dynamodb_condition_failures_total{@,found="conflict"}[$__rate_interval]))`).
					empty(onlyDynamoDB)).
				alert("TradestoreOutcomeConflict"),
			lines("Projection", itemsPerSecond, unjudged(),
				"Outcomes written to the request store by the projector.",
				q("outcomes", `sum(rate(tradestore_projection_batch_outcomes_sum{@}[$__rate_interval]))`)),
			lines("Outcomes per step", units.Short, unjudged(),
				"Outcomes in one step of the projector. Steps grow when it is behind, and shrink when DynamoDB is slow.",
				mean("mean", "tradestore_projection_batch_outcomes", "").empty(onlyDynamoDB)),
		}},
	},
}

// pool shows the connections of one pool.
func pool(title, name string) row {
	of := `{@,pool="` + name + `"}`
	return row{title, []panel{
		lines("Connections of "+name, units.PercentUnit, above(0.7, 0.95),
			"Connections in use as a share of the pool size.",
			q("{{instance}}",
				`sum by (instance) (tradestore_postgres_pool_connections{@,pool="`+name+`",state="in_use"}) / sum by `+
					`(instance) (tradestore_postgres_pool_connections_limit`+of+`)`)).
			alert("TradestorePoolExhausted"),
		lines("Waits for "+name, "suffix: waiting", above(0.5, 1),
			"Average number of callers that wait for a connection. At 1, some caller always waits.",
			q("{{instance}}", `rate(tradestore_postgres_pool_acquire_wait_seconds_total`+of+`[$__rate_interval])`)).
			alert("TradestorePoolExhausted"),
		lines("Uses of "+name, perSecond, unjudged(),
			"Requests for a connection, by result: at once, after a wait, or given up.",
			q("{{result}}", `sum by (result) (rate(tradestore_postgres_pool_acquires_total`+of+`[$__rate_interval]))`)),
		lines("New connections of "+name, perSecond, above(0.1, 1),
			"New connections. There should be few after the start, because each is a new PostgreSQL process.",
			q("{{instance}}", `rate(tradestore_postgres_pool_opened_connections_total`+of+`[$__rate_interval])`)),
	}}
}
