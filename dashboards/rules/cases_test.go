package rules_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"tradestore/dashboards/rules"
	"tradestore/test/stack"
)

// story is what becomes of one alert while time goes by: not there, firing, resolved.
type story struct {
	alert  string
	long   string            // of burn alerts: which of the windows
	given  map[string]string // series and their values, one a minute, as promtool writes them
	quiet  string            // moments before it, the last of them just before; separated by spaces
	fires  string            // a moment at which it fires, and no other rule of its name
	over   string            // a moment after it
	labels map[string]string // besides severity, long and short
	says   string            // its description
}

// The cases are those of promtool, which evaluates the committed files.
func TestAlertsFireAndResolve(t *testing.T) {
	type moment struct {
		At    string `yaml:"eval_time"`
		Alert string `yaml:"alertname"`
		Want  []any  `yaml:"exp_alerts"`
	}
	var tests []any
	covered := map[string]bool{}
	for _, s := range stories {
		a := find(t, s)
		covered[a.Name+a.Labels["long"]] = true
		labels := map[string]string{"severity": a.Severity}
		for _, more := range []map[string]string{a.Labels, s.labels} {
			for name, value := range more {
				labels[name] = value
			}
		}
		var moments []moment
		for at := range strings.FieldsSeq(s.quiet + " " + s.over) {
			moments = append(moments, moment{At: at, Alert: s.alert})
		}
		moments = append(moments, moment{At: s.fires, Alert: s.alert,
			Want: []any{map[string]any{"exp_labels": labels, "exp_annotations": map[string]string{
				"summary": a.Summary, "description": s.says, "runbook_url": a.Runbook(), "dashboard_url": a.Board()}}}})
		tests = append(tests, map[string]any{"name": s.alert + s.long, "interval": "1m", "input_series": inputs(s.given),
			"alert_rule_test": moments})
	}
	for _, a := range rules.Alerts() {
		assert.True(t, covered[a.Name+a.Labels["long"]], "%s %s has no case", a.Name, a.Labels["long"])
	}
	promtool(t, tests, "alerts.yaml")
}

// find returns the rule that a story is about.
func find(t *testing.T, s story) rules.Alert {
	t.Helper()
	for _, a := range rules.Alerts() {
		if a.Name == s.alert && a.Labels["long"] == s.long {
			return a
		}
	}
	require.Failf(t, "no such rule", "%s %s", s.alert, s.long)
	return rules.Alert{}
}

func inputs(given map[string]string) (series []any) {
	for name, values := range given {
		series = append(series, map[string]string{"series": name, "values": values})
	}
	return series
}

// promtool runs cases on committed files.
func promtool(t *testing.T, tests []any, files ...string) {
	t.Helper()
	for i := range files {
		absolute, err := filepath.Abs(files[i])
		require.NoError(t, err)
		files[i] = absolute
	}
	cases, err := yaml.Marshal(map[string]any{
		"rule_files": files, "evaluation_interval": "1m", "tests": tests,
		"group_eval_order": []string{"tradestore-objectives", "tradestore-budgets", "tradestore"}, // else it is by chance
	})
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "cases.yaml")
	require.NoError(t, os.WriteFile(path, cases, 0o600))
	said, err := stack.Promtool(t, "test", "rules", path)
	require.NoError(t, err, said)
}

const (
	aServer = `{job="tradestore-server",instance="s:1"}`
	aWorker = `{job="tradestore-worker",instance="w:1"}`
)

// with adds labels to those of a process.
func with(process, labels string) string {
	return strings.TrimSuffix(process, "}") + "," + labels + "}"
}

var byWorker = map[string]string{"job": "tradestore-worker"}

var stories = append(burnStories(), []story{
	{
		alert: "TradestoreShedSustained",
		given: map[string]string{
			// 1/s is not too much
			"tradestore_accept_shed_total" + with(aServer, `cause="items"`):  "0+60x20 1200+120x20 3600x20",
			"tradestore_accept_shed_total" + with(aServer, `cause="closed"`): "0+600x60", // a drain
		},
		quiet: "20m 31m", fires: "35m", over: "47m",
		labels: map[string]string{"job": "tradestore-server", "cause": "items"},
		says:   "2 trades per second are refused with 503 (tradestore-server, cause items).",
	},
	{
		alert: "TradestorePartitionShut",
		given: map[string]string{
			"tradestore_accept_partition_shut" + with(aServer, `partition="0"`): "0x9 1x5 0x30",
			"tradestore_accept_partition_shut" + with(aServer, `partition="1"`): "0x9 1x5 0x30",
			"tradestore_accept_partition_shut" + with(aServer, `partition="2"`): "0x45",
		},
		quiet: "9m 10m", fires: "12m", over: "16m",
		labels: map[string]string{"job": "tradestore-server", "instance": "s:1"},
		says:   "2 partitions take no records, and their trades are refused with 503 (s:1, tradestore-server).",
	},
	{
		alert: "TradestoreReadsThrottled",
		given: map[string]string{
			"tradestore_http_problems_total" + with(aServer, `code="TOO_MANY_PAST_READS"`): "0+6x20 120+120x20 2520x20",
			"tradestore_http_problems_total" + with(aServer, `code="QUEUE_FULL"`):          "0+600x60",
		},
		quiet: "20m 30m", fires: "35m", over: "47m",
		labels: map[string]string{"job": "tradestore-server", "code": "TOO_MANY_PAST_READS"},
		says:   "2 reads per second are refused with 503 (tradestore-server, code TOO_MANY_PAST_READS).",
	},
	{
		alert: "TradestoreConnectionsFull",
		given: map[string]string{
			"tradestore_http_connections_evicted_total" + aServer:                                      "0x20 0+60x20 1200x20",
			"tradestore_http_connections_refused_total" + with(aServer, `code="TOO_MANY_CONNECTIONS"`): "0x20 0+60x20 1200x20",
			"tradestore_http_connections_refused_total" + with(aServer, `code="TOO_MANY_REQUESTS"`):    "0+60x60",
		},
		quiet: "20m 30m", fires: "35m", over: "47m",
		labels: map[string]string{"job": "tradestore-server", "instance": "s:1"},
		says:   "2 connections per second are closed to make room, or refused (s:1, tradestore-server).",
	},
	{
		alert: "TradestoreNothingDecided",
		given: map[string]string{
			"tradestore_accept_delivered_total" + aServer: "0+600x60",
			"tradestore_apply_outcomes_total" + with(aWorker,
				`status="SUCCESS",reason=""`): "0+600x20 12000x20 12000+600x20",
			// the orphan reaper is no progress
			"tradestore_apply_outcomes_total" + with(aWorker, `status="FAILED",reason="NOT_DELIVERED"`):  "0+1x60",
			"tradestore_apply_outcomes_total" + with(aWorker, `status="FAILED",reason="INVALID_RECORD"`): "0x60",
		},
		quiet: "15m 25m", fires: "30m", over: "45m",
		says: "10 trades per second are accepted, and no worker has decided any in 5 minutes.",
	},
	{ // the last worker is gone, and its metrics with it
		alert: "TradestoreNothingDecided",
		given: map[string]string{
			"tradestore_accept_delivered_total" + aServer:                                   "0+600x60",
			"tradestore_apply_outcomes_total" + with(aWorker, `status="SUCCESS",reason=""`): "0+600x20 stale _x18 0+600x20",
		},
		quiet: "20m 24m", fires: "30m", over: "45m",
		says: "10 trades per second are accepted, and no worker has decided any in 5 minutes.",
	},
	{
		alert: "TradestoreConsumerStuck",
		given: map[string]string{
			"tradestore_apply_lag_records" + with(aWorker, `partition="0"`): "5x20 5+5x20 0x20",
			"tradestore_apply_position" + with(aWorker, `partition="0"`):    "0+5x20 100x20 400x20",
			"tradestore_apply_lag_records" + with(aWorker, `partition="1"`): "0x60", // nothing to do
			"tradestore_apply_position" + with(aWorker, `partition="1"`):    "7x60",
		},
		quiet: "20m 25m", fires: "30m", over: "42m",
		labels: map[string]string{"job": "tradestore-worker", "instance": "w:1"},
		says:   "1 partitions of w:1 (tradestore-worker) have records to apply and have not moved in 5 minutes.",
	},
	{
		alert: "TradestorePartitionsUnread",
		given: map[string]string{
			"tradestore_apply_topic_partitions" + aWorker:                                   "12x60",
			"tradestore_apply_topic_partitions{job=\"tradestore-worker\",instance=\"w:2\"}": "12x20 stale _x60",
			"tradestore_apply_partitions" + aWorker:                                         "6x40 12x20",
			"tradestore_apply_partitions{job=\"tradestore-worker\",instance=\"w:2\"}":       "6x20 stale _x60",
		},
		quiet: "20m 23m", fires: "25m", over: "41m", labels: byWorker,
		says: "6 partitions are held by none of the workers (tradestore-worker).",
	},
	{
		alert: "TradestoreLagOld",
		given: map[string]string{
			"tradestore_apply_lag_seconds" + with(aWorker, `partition="0"`): "60x20 90x20 0x20",
			"tradestore_apply_lag_seconds" + with(aWorker, `partition="1"`): "0x60",
		},
		quiet: "20m 25m", fires: "30m", over: "42m", labels: byWorker,
		says: "The oldest accepted trade that is not stored is 1m 30s old (tradestore-worker).",
	},
	{
		alert: "TradestoreFenceLost",
		given: map[string]string{"tradestore_apply_fenced_total" + aWorker: "0x20 1x40"},
		quiet: "20m", fires: "22m", over: "37m", labels: byWorker,
		says: "1 batches were dropped in 15 minutes because another worker had moved the position (tradestore-worker).",
	},
	{
		alert: "TradestoreDeadLetters",
		given: map[string]string{"tradestore_apply_dead_letters_total" + aWorker: "0x20 3x40"},
		quiet: "20m", fires: "22m", over: "37m", labels: byWorker,
		says: "3 records became dead letters in 15 minutes (tradestore-worker).",
	},
	{
		alert: "TradestoreProjectionBehind",
		given: map[string]string{"tradestore_projection_lag_seconds" + aWorker: "60x20 61x20 0x20"},
		quiet: "20m 25m", fires: "30m", over: "42m", labels: byWorker,
		says: "The oldest outcome that is not visible was decided 1m 1s ago (tradestore-worker).",
	},
	{
		alert: "TradestorePendingOld",
		given: map[string]string{"tradestore_orphan_oldest_seconds" + aWorker: "300x20 301x20 0x20"},
		quiet: "20m 25m", fires: "30m", over: "42m", labels: byWorker,
		says: "The oldest request without an outcome is 5m 1s old (tradestore-worker).",
	},
	{
		alert: "TradestorePendingUnprovable",
		given: map[string]string{
			"tradestore_orphan_pending_requests" + with(aWorker, `waits_for="operator"`): "0x20 2x20 0x20",
			// these end by themselves
			"tradestore_orphan_pending_requests" + with(aWorker, `waits_for="position"`): "5x60",
		},
		quiet: "20m 25m", fires: "30m", over: "42m", labels: byWorker,
		says: "2 requests stay PENDING because the log or the journal no longer has the time of their acceptance " +
			"(tradestore-worker).",
	},
	{
		alert: "TradestoreOrphanReaperActive",
		given: map[string]string{
			"tradestore_orphan_closed_total" + aWorker:    "0x20 3x40",
			"tradestore_orphan_projected_total" + aWorker: "0x60",
		},
		quiet: "20m", fires: "22m", over: "37m", labels: byWorker,
		says: "3 requests in 15 minutes never reached the log, or had an outcome that was not shown (tradestore-worker).",
	},
	{
		alert: "TradestoreUpkeepFailing", // a sweep that fails is repeated each minute
		given: map[string]string{
			"tradestore_sweep_errors_total" + aWorker:   "0+1x70 70x200",
			"tradestore_summary_errors_total" + aWorker: "0x270",
		},
		quiet: "30m", fires: "70m", over: "195m", labels: byWorker,
		says: "70 sweeps or calls that summarize failed in 2 hours (tradestore-worker).",
	},
	{
		alert: "TradestoreOutcomeNotShown",
		given: map[string]string{"tradestore_orphan_unshown_requests" + aWorker: "0x20 2x20 0x20"},
		quiet: "20m 22m", fires: "27m", over: "42m", labels: byWorker,
		says: "2 requests stay PENDING although their outcome is decided, because the request store did not take it " +
			"(tradestore-worker).",
	},
	{
		alert: "TradestoreOutcomeConflict",
		given: map[string]string{
			"tradestore_dynamodb_condition_failures_total" + with(aWorker, `found="conflict"`): "0x60 1x120",
			// repeats are harmless
			"tradestore_dynamodb_condition_failures_total" + with(aWorker, `found="same"`): "0+5x180",
		},
		quiet: "60m", fires: "62m", over: "122m", labels: byWorker,
		says: "1 requests had two different outcomes within an hour (tradestore-worker).",
	},
	{
		alert: "TradestoreStoreUnreachable",
		given: map[string]string{
			"tradestore_checks" + with(aWorker, `rule="T1",status="unknown"`): "0x20 2x20 0x20",
			"tradestore_checks" + with(aWorker, `rule="T6",status="unknown"`): "0x20 3x20 0x20",
			"tradestore_checks" + with(aWorker, `rule="T6",status="skipped"`): "4x60",
		},
		quiet: "20m 22m", fires: "25m", over: "42m", labels: byWorker,
		says: "5 checks of the stores can't be made (tradestore-worker).",
	},
	{
		alert: "TradestoreCheckFailed",
		given: map[string]string{
			// seen once, then the process is gone
			"tradestore_checks" + with(aWorker, `rule="T4",status="failed"`):  "0x20 1 0x40",
			"tradestore_checks" + with(aWorker, `rule="T4",status="unknown"`): "1x60",
		},
		quiet: "20m", fires: "25m", over: "32m",
		labels: map[string]string{"job": "tradestore-worker", "rule": "T4"},
		says:   "1 checks of rule T4 failed (tradestore-worker).",
	},
	{
		alert: "TradestoreCheckUnconfirmed",
		given: map[string]string{
			"tradestore_checks" + with(aWorker, `rule="T6",status="unconfirmed"`): "0x20 9x2 0x40",
			"tradestore_checks" + with(aWorker, `rule="T6",status="warning"`):     "1x60",
		},
		quiet: "20m 21m", fires: "22m", over: "24m",
		labels: map[string]string{"job": "tradestore-worker", "rule": "T6"},
		says: "9 checks of rule T6 fail as in a failover (tradestore-worker). Servers and workers stop when this lasts for " +
			"two minutes.",
	},
	{
		alert: "TradestoreClockSkewed",
		given: map[string]string{
			"tradestore_clock_skew_seconds" + with(aWorker, `store="PostgreSQL"`): "0x20 -6x20 4x20",
			"tradestore_clock_skew_seconds" + with(aWorker, `store="DynamoDB"`):   "4x60",
		},
		quiet: "20m 25m", fires: "30m", over: "42m",
		labels: map[string]string{"job": "tradestore-worker", "instance": "w:1"},
		says:   "The clocks of w:1 (tradestore-worker) and of a store are 6s apart.",
	},
	{
		alert: "TradestoreClockWrong",
		given: map[string]string{
			"tradestore_clock_skew_seconds" + with(aServer, `store="PostgreSQL"`): "0x20 2592000x20 30x20",
		},
		quiet: "20m", fires: "22m", over: "42m",
		labels: map[string]string{"job": "tradestore-server", "instance": "s:1"},
		says: "The clocks of s:1 (tradestore-server) and of a store are 30d 0h 0m 0s apart. The process deletes nothing " +
			"that is past its retention, and would not start.",
	},
	{
		alert: "TradestorePoolExhausted",
		given: map[string]string{
			"tradestore_postgres_pool_acquire_wait_seconds_total" + with(aServer,
				`pool="tradestore-requests"`): "0+60x20 1200+180x20 4800x20",
		},
		quiet: "20m 25m", fires: "35m", over: "47m",
		labels: map[string]string{"job": "tradestore-server", "instance": "s:1", "pool": "tradestore-requests"},
		says:   "3 calls wait for a connection at any time, or give up per second (s:1, pool tradestore-requests).",
	},
	{ // nobody gets a connection any more, so nobody's wait ends
		alert: "TradestorePoolExhausted",
		given: map[string]string{
			"tradestore_postgres_pool_acquires_total" + with(aServer,
				`pool="tradestore-requests",result="cancelled"`): "0+6x20 120+120x20 2520x20",
		},
		quiet: "20m 25m", fires: "35m", over: "47m",
		labels: map[string]string{"job": "tradestore-server", "instance": "s:1", "pool": "tradestore-requests"},
		says:   "2 calls wait for a connection at any time, or give up per second (s:1, pool tradestore-requests).",
	},
	{
		alert: "TradestoreLoudStop",
		given: map[string]string{"tradestore_worker_stopped" + aWorker: "0x20 1 stale"},
		quiet: "20m", fires: "22m", over: "32m",
		labels: map[string]string{"job": "tradestore-worker", "instance": "w:1"},
		says:   "w:1 (tradestore-worker) has stopped 1 times or more within 15 minutes.",
	},
	{ // it stops before anybody sees why
		alert: "TradestoreLoudStop",
		given: map[string]string{
			"process_start_time_seconds" + aServer:                          "1x20 2x5 3x5 4x40",
			"process_start_time_seconds{job=\"postgres\",instance=\"p:1\"}": "0+1x60", // not ours
		},
		quiet: "20m 30m", fires: "33m", over: "45m",
		labels: map[string]string{"job": "tradestore-server", "instance": "s:1"},
		says:   "s:1 (tradestore-server) has stopped 3 times or more within 15 minutes.",
	},
	{
		alert: "TradestoreTargetDown",
		given: map[string]string{
			"up" + aServer:                          "1x20 0x20 1x20",
			"up{job=\"postgres\",instance=\"p:1\"}": "0x60", // not ours
		},
		quiet: "20m 22m", fires: "25m", over: "42m",
		labels: map[string]string{"job": "tradestore-server", "instance": "s:1"},
		says:   "s:1 (tradestore-server) can't be scraped (up is 0).",
	},
	{
		alert: "TradestoreAbsent",
		given: map[string]string{
			"tradestore_build_info" + aServer: "1x60",
			"tradestore_build_info" + aWorker: "1x20 stale _x18 1x20",
		},
		quiet: "20m 25m", fires: "30m", over: "42m", labels: byWorker,
		says: "There are no metrics of tradestore-worker (absent is 1): no process runs, or Prometheus has no address.",
	},
}...)
