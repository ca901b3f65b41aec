package dynamo

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tradestore/internal/telemetry"
)

// Values of the operation label: the calls of DynamoDB's interface.
const (
	opBatchWrite   = "BatchWriteItem"
	opPut          = "PutItem"
	opGet          = "GetItem"
	opStatements   = "BatchExecuteStatement"
	opQuery        = "Query"
	opBatchGet     = "BatchGetItem"
	opDescribe     = "DescribeTable"
	opDescribeTTL  = "DescribeTimeToLive"
	opCreateTable  = "CreateTable"
	opUpdateExpiry = "UpdateTimeToLive"
)

var operations = []string{opBatchWrite, opPut, opGet, opStatements, opQuery, opBatchGet,
	opDescribe, opDescribeTTL, opCreateTable, opUpdateExpiry}

// What the item was when the condition of a write did not hold (rule S2).
const (
	foundSame     = "same"     // the same outcome: a repeat
	foundMissing  = "missing"  // no item: it was never opened, or it was deleted
	foundConflict = "conflict" // another outcome: rule S1 is broken
)

// metrics are the metrics of the request store. Every label has a fixed set of values.
type metrics struct {
	telemetry.Families

	calls       *prometheus.CounterVec        // operation, result
	duration    *prometheus.HistogramVec      // operation
	throttled   map[string]prometheus.Counter // by operation
	unprocessed prometheus.Counter
	unmet       map[string]prometheus.Counter // by what was found
}

func newMetrics() *metrics {
	m := &metrics{}
	m.calls = m.Counters("tradestore_dynamodb_requests_total",
		"Calls to DynamoDB, by operation and result.", "operation", "result")
	m.duration = m.Histograms("tradestore_dynamodb_request_duration_seconds",
		"Duration of one call to DynamoDB, by operation.", telemetry.Durations, "operation")
	m.throttled = m.CountersOf("tradestore_dynamodb_throttled_items_total",
		"Items that DynamoDB refused for lack of capacity, by operation. They are sent again with backoff.",
		"operation", opBatchWrite, opPut, opStatements)
	m.unprocessed = m.Counter("tradestore_dynamodb_unprocessed_items_total",
		"PENDING items that DynamoDB left unprocessed in a batch. They are sent again with backoff until the deadline.")
	m.unmet = m.CountersOf("tradestore_dynamodb_condition_failures_total",
		"Outcomes of a request that was not PENDING, by what was found: same, missing or conflict. A conflict violates S1.",
		"found", foundSame, foundMissing, foundConflict)
	for _, op := range operations {
		m.duration.WithLabelValues(op)
		for _, r := range results {
			m.calls.WithLabelValues(op, string(r))
		}
	}
	return m
}

func (m *metrics) observe(op string, r result, took time.Duration) {
	m.calls.WithLabelValues(op, string(r)).Inc()
	m.duration.WithLabelValues(op).Observe(took.Seconds())
}
