package rules

// Uids of the dashboards that alerts link to.
const (
	ingest  = "tradestore-ingest"
	worker  = "tradestore-worker"
	stores  = "tradestore-stores"
	runtime = "tradestore-runtime"
)

// Alerts lists every alerting rule: the objectives first, then causes in the order in which a trade meets them.
func Alerts() []Alert {
	all := burnAlerts()
	all = append(all, acceptAlerts...)
	all = append(all, applyAlerts...)
	all = append(all, outcomeAlerts...)
	all = append(all, storeAlerts...)
	return append(all, processAlerts...)
}

var acceptAlerts = []Alert{
	{
		Name: "TradestoreShedSustained", Severity: Ticket, Dashboard: ingest, For: "10m",
		Expr:    `sum by (job, cause) (rate(tradestore_accept_shed_total{cause!="closed"}[5m])) > 1`,
		Summary: "Servers refuse trades because they are full.",
		Description: "{{ $value | humanize }} trades per second are refused with 503 ({{ $labels.job }}, cause " +
			"{{ $labels.cause }}).",
	},
	{
		Name: "TradestorePartitionShut", Severity: Page, Dashboard: ingest, For: "1m",
		Expr:    `count by (job, instance) (tradestore_accept_partition_shut > 0)`,
		Summary: "The log takes no records of some partitions: their trades are refused.",
		Description: "{{ $value }} partitions take no records, and their trades are refused with 503 " +
			"({{ $labels.instance }}, {{ $labels.job }}).",
	},
	{
		Name: "TradestoreReadsThrottled", Severity: Ticket, Dashboard: ingest, For: "10m",
		Expr:    `sum by (job, code) (rate(tradestore_http_problems_total{code=~"TOO_MANY_(PAST_READS|EXPORTS)"}[5m])) > 0.1`,
		Summary: "Servers refuse expensive reads.",
		Description: "{{ $value | humanize }} reads per second are refused with 503 ({{ $labels.job }}, code " +
			"{{ $labels.code }}).",
	},
	{
		Name: "TradestoreConnectionsFull", Severity: Ticket, Dashboard: ingest, For: "10m",
		Expr: `
			sum by (job, instance) (rate(tradestore_http_connections_evicted_total[5m]))
			+
			sum by (job, instance) (rate(tradestore_http_connections_refused_total{code="TOO_MANY_CONNECTIONS"}[5m])) > 0`,
		Summary: "A server has nearly as many connections as it may have.",
		Description: "{{ $value | humanize }} connections per second are closed to make room, or refused " +
			"({{ $labels.instance }}, {{ $labels.job }}).",
	},
}

// applyAlerts has rules over all workers in addition to those for one partition: a partition that no worker reads has
// no lag metric, and a stopped worker has no metrics at all.
var applyAlerts = []Alert{
	{
		Name: "TradestoreNothingDecided", Severity: Page, Dashboard: worker, For: "2m",
		Expr: `
			sum(rate(tradestore_accept_delivered_total[5m])) > 0
			unless
			sum(rate(tradestore_apply_outcomes_total{reason!="NOT_DELIVERED"}[5m])) > 0`,
		Summary:     "Trades are accepted, but none is decided.",
		Description: "{{ $value | humanize }} trades per second are accepted, and no worker has decided any in 5 minutes.",
	},
	{
		Name: "TradestoreConsumerStuck", Severity: Page, Dashboard: worker, For: "2m",
		Expr: `count by (job, instance) (tradestore_apply_lag_records > 0 and ` +
			`changes(tradestore_apply_position[5m]) == 0)`,
		Summary: "A worker makes no progress.",
		Description: "{{ $value }} partitions of {{ $labels.instance }} ({{ $labels.job }}) have records to apply and " +
			"have not moved in 5 minutes.",
	},
	{
		Name: "TradestorePartitionsUnread", Severity: Page, Dashboard: worker, For: "3m",
		Expr:        `max by (job) (tradestore_apply_topic_partitions) - sum by (job) (tradestore_apply_partitions) > 0`,
		Summary:     "Partitions of the log are read by no worker.",
		Description: "{{ $value }} partitions are held by none of the workers ({{ $labels.job }}).",
	},
	{
		Name: "TradestoreLagOld", Severity: Page, Dashboard: worker, For: "5m",
		Expr:    `max by (job) (tradestore_apply_lag_seconds) > 60`,
		Summary: "Accepted trades wait too long to be stored.",
		Description: "The oldest accepted trade that is not stored is {{ $value | humanizeDuration }} old " +
			"({{ $labels.job }}).",
	},
	{
		Name: "TradestoreFenceLost", Severity: Ticket, Dashboard: worker,
		Expr:    `sum by (job) (increase(tradestore_apply_fenced_total[15m])) > 0`,
		Summary: "A worker continued with partitions that it had lost.",
		Description: "{{ $value | humanize }} batches were dropped in 15 minutes because another worker had moved the " +
			"position ({{ $labels.job }}).",
	},
	{
		Name: "TradestoreDeadLetters", Severity: Ticket, Dashboard: worker,
		Expr:        `sum by (job) (increase(tradestore_apply_dead_letters_total[15m])) > 0`,
		Summary:     "Records of the log could not be stored.",
		Description: "{{ $value | humanize }} records became dead letters in 15 minutes ({{ $labels.job }}).",
	},
}

var outcomeAlerts = []Alert{
	{
		Name: "TradestoreProjectionBehind", Severity: Page, Dashboard: worker, For: "5m",
		Expr:    `max by (job) (tradestore_projection_lag_seconds) > 60`,
		Summary: "Outcomes are decided, but clients don't see them.",
		Description: "The oldest outcome that is not visible was decided {{ $value | humanizeDuration }} ago " +
			"({{ $labels.job }}).",
	},
	{
		Name: "TradestorePendingOld", Severity: Page, Dashboard: worker, For: "5m",
		Expr:        `max by (job) (tradestore_orphan_oldest_seconds) > 300`,
		Summary:     "A request stays PENDING.",
		Description: "The oldest request without an outcome is {{ $value | humanizeDuration }} old ({{ $labels.job }}).",
	},
	{
		Name: "TradestorePendingUnprovable", Severity: Ticket, Dashboard: worker, For: "5m",
		Expr:    `sum by (job) (tradestore_orphan_pending_requests{waits_for="operator"}) > 0`,
		Summary: "Nobody can tell any more whether a request was delivered.",
		Description: "{{ $value | humanize }} requests stay PENDING because the log or the journal no longer has the time " +
			"of their acceptance ({{ $labels.job }}).",
	},
	{
		Name: "TradestoreOrphanReaperActive", Severity: Ticket, Dashboard: worker,
		Expr: `
			sum by (job) (increase(tradestore_orphan_closed_total[15m]))
			+
			sum by (job) (increase(tradestore_orphan_projected_total[15m])) > 0`,
		Summary: "The orphan reaper had to end PENDING requests.",
		Description: "{{ $value | humanize }} requests in 15 minutes never reached the log, or had an outcome that was " +
			"not shown ({{ $labels.job }}).",
	},
	{
		Name: "TradestoreUpkeepFailing", Severity: Ticket, Dashboard: worker,
		Expr: `
			sum by (job) (increase(tradestore_sweep_errors_total[2h])) > 60
			or
			sum by (job) (increase(tradestore_summary_errors_total[2h])) > 60`,
		Summary:     "Old days are not dropped, or the journal gets no summaries.",
		Description: "{{ $value | humanize }} sweeps or calls that summarize failed in 2 hours ({{ $labels.job }}).",
	},
	{
		Name: "TradestoreOutcomeNotShown", Severity: Page, Dashboard: worker, For: "5m",
		Expr:    `sum by (job) (tradestore_orphan_unshown_requests) > 0`,
		Summary: "Requests have an outcome that the request store does not take.",
		Description: "{{ $value }} requests stay PENDING although their outcome is decided, because the request store did " +
			"not take it ({{ $labels.job }}).",
	},
	{
		Name: "TradestoreOutcomeConflict", Severity: Page, Dashboard: stores,
		Expr:        `sum by (job) (increase(tradestore_dynamodb_condition_failures_total{found="conflict"}[1h])) > 0`,
		Summary:     "A request is shown with another outcome than the one decided.",
		Description: "{{ $value | humanize }} requests had two different outcomes within an hour ({{ $labels.job }}).",
	},
}

var storeAlerts = []Alert{
	{
		Name: "TradestoreStoreUnreachable", Severity: Page, Dashboard: stores, For: "2m",
		Expr:        `max by (job) (sum by (job, instance) (tradestore_checks{status="unknown"})) > 0`,
		Summary:     "PostgreSQL, Kafka or DynamoDB does not answer.",
		Description: "{{ $value }} checks of the stores can't be made ({{ $labels.job }}).",
	},
	{
		Name: "TradestoreCheckFailed", Severity: Page, Dashboard: stores,
		Expr:        `max by (job, rule) (max_over_time(tradestore_checks{status="failed"}[10m])) > 0`,
		Summary:     "A check of a store failed: servers and workers stop.",
		Description: "{{ $value }} checks of rule {{ $labels.rule }} failed ({{ $labels.job }}).",
	},
	{
		Name: "TradestoreCheckUnconfirmed", Severity: Page, Dashboard: stores, For: "1m",
		Expr:    `max by (job, rule) (tradestore_checks{status="unconfirmed"}) > 0`,
		Summary: "Only a standby answers, or a leader of the log that does not have all of it.",
		Description: "{{ $value }} checks of rule {{ $labels.rule }} fail as in a failover ({{ $labels.job }}). Servers " +
			"and workers stop when this lasts for two minutes.",
	},
	{
		Name: "TradestoreClockSkewed", Severity: Ticket, Dashboard: stores, For: "5m",
		Expr:    `max by (job, instance) (abs(tradestore_clock_skew_seconds)) > 5`,
		Summary: "The clock of a process is not the one of its stores.",
		Description: "The clocks of {{ $labels.instance }} ({{ $labels.job }}) and of a store are " +
			"{{ $value | humanizeDuration }} apart.",
	},
	{
		Name: "TradestoreClockWrong", Severity: Page, Dashboard: stores,
		Expr:    `max by (job, instance) (abs(tradestore_clock_skew_seconds)) > 30`,
		Summary: "The clock of a process is wrong, or the one of a store.",
		Description: "The clocks of {{ $labels.instance }} ({{ $labels.job }}) and of a store are " +
			"{{ $value | humanizeDuration }} apart. The process deletes nothing that is past its retention, and would not " +
			"start.",
	},
	{
		Name: "TradestorePoolExhausted", Severity: Ticket, Dashboard: stores, For: "5m",
		Expr: `
			max by (job, instance, pool) (rate(tradestore_postgres_pool_acquire_wait_seconds_total[5m])) > 1
			or
			sum by (job, instance, pool) (rate(tradestore_postgres_pool_acquires_total{result="cancelled"}[5m])) > 0.1`,
		Summary: "There are not enough connections to PostgreSQL.",
		Description: "{{ $value | humanize }} calls wait for a connection at any time, or give up per second " +
			"({{ $labels.instance }}, pool {{ $labels.pool }}).",
	},
}

// processAlerts rely on this: a process keeps /metrics up for 30 s after a failed check, so that a scrape sees why it
// stops. If it is killed, its restarts show.
var processAlerts = []Alert{
	{
		Name: "TradestoreLoudStop", Severity: Page, Dashboard: runtime,
		Expr: `
			max by (job, instance) (max_over_time(tradestore_worker_stopped[10m])) > 0
			or
			max by (job, instance) (changes(process_start_time_seconds{job=~"tradestore-(server|worker)"}[15m])) > 2`,
		Summary:     "A process stops by itself, perhaps repeatedly.",
		Description: "{{ $labels.instance }} ({{ $labels.job }}) has stopped {{ $value }} times or more within 15 minutes.",
	},
	{
		Name: "TradestoreTargetDown", Severity: Page, Dashboard: runtime, For: "2m",
		Expr:        `up{job=~"tradestore-(server|worker)"} == 0`,
		Summary:     "A process does not answer.",
		Description: "{{ $labels.instance }} ({{ $labels.job }}) can't be scraped (up is {{ $value }}).",
	},
	{
		Name: "TradestoreAbsent", Severity: Page, Dashboard: runtime, For: "5m",
		Expr: `
			absent(tradestore_build_info{job="tradestore-server"})
			or
			absent(tradestore_build_info{job="tradestore-worker"})`,
		Summary: "There are no metrics of any process of a role.",
		Description: "There are no metrics of {{ $labels.job }} (absent is {{ $value }}): no process runs, or " +
			"Prometheus has no address.",
	},
}
