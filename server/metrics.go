package server

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"tradestore/internal/telemetry"
)

// metrics are the metric families of the server. Every label has a bounded set of values.
type metrics struct {
	telemetry.Families

	requests     *prometheus.CounterVec // route, method, code
	inFlight     prometheus.Gauge
	latency      *prometheus.HistogramVec // route, method
	problems     *prometheus.CounterVec   // code
	panics       prometheus.Counter
	connsRefused map[string]prometheus.Counter // by code
	connsEvicted prometheus.Counter
	acceptErrors prometheus.Counter
	exports      map[string]prometheus.Counter // by result
	checkUp      *prometheus.GaugeVec          // check

	accepted  prometheus.Histogram
	delivered prometheus.Counter
	shed      map[string]prometheus.Counter // by cause

	partitionShut *prometheus.GaugeVec // partition

	queueWait  prometheus.Histogram
	batchSize  prometheus.Histogram
	failedOpen prometheus.Counter
	unknown    map[string]prometheus.Counter // by stage
	keyed      map[string]prometheus.Counter // by result
	bulkItems  map[string]prometheus.Counter // by result

	waits         map[string]prometheus.Counter // by result
	outcomeReads  prometheus.Histogram
	outcomeErrors prometheus.Counter
	lagErrors     prometheus.Counter

	events       prometheus.Counter
	followReads  prometheus.Histogram
	followErrors prometheus.Counter

	lookUpStage, openStage, produceStage prometheus.Observer
}

// Values of the stage label, in the order in which a request passes them.
const (
	stageLookUp  = "lookup"
	stageOpen    = "open"
	stageProduce = "produce"

	stageDeadline = "deadline" // of unknown results only: opened in time, but not produced in time
)

// Values of the cause label of shed requests.
const (
	shedItems  = "items"
	shedBytes  = "bytes"
	shedLate   = "late"
	shedClosed = "closed"

	shedPartition = "partition"
)

// Values of the result label of requests under idempotency keys.
const (
	keyOpened     = "opened"
	keyReopened   = "reopened" // after an attempt that was not delivered
	keyReplayed   = "replayed"
	keyInProgress = "in_progress"
	keyReused     = "reused"
	keyExhausted  = "exhausted"
)

// Values of the result label of calls that prefer to wait.
const (
	waitEnded      = "ended"
	waitTimeout    = "timeout"
	waitRefused    = "refused" // for lack of a slot
	waitDrained    = "drained"
	waitPeerClosed = "peer_closed" // by the client
)

// Values of the result label of the trades of bulk requests.
const (
	bulkAccepted    = "accepted"
	bulkRefused     = "refused"
	bulkUnavailable = "unavailable"
	bulkUnknown     = "unknown"
)

func newMetrics() *metrics {
	m := &metrics{}
	m.requests = m.Counters("tradestore_http_requests_total",
		"HTTP requests answered, by route, method and status code.", "route", "method", "code")
	m.inFlight = m.Gauge("tradestore_http_requests_in_flight", "HTTP requests that were read and not answered yet.")
	m.latency = m.Histograms("tradestore_http_request_duration_seconds",
		"Time from a request that was read to its answer, whatever that is, without the time that the client "+
			"preferred to wait, by route and method.", telemetry.Durations, "route", "method")
	m.problems = m.Counters("tradestore_http_problems_total",
		"Requests refused or failed, by the code of the problem document.", "code")
	m.panics = m.Counter("tradestore_http_panics_total", "Panics that were caught. Each is a bug.")
	m.connsRefused = m.CountersOf("tradestore_http_connections_refused_total",
		"Connections refused because too many are open, by the code of the problem document.",
		"code", string(TooManyConnections), string(TooManyRequests))
	m.connsEvicted = m.Counter("tradestore_http_connections_evicted_total",
		"Idle connections closed because nearly as many are open as may be (--max-conns).")
	m.acceptErrors = m.Counter("tradestore_http_accept_errors_total",
		"Connections that could not be taken because the process or the machine was out of descriptors or memory.")
	m.checkUp = m.Gauges("tradestore_health_check_up",
		"1 if the last probe of the check was well, else 0; 0 before the first.", "check")
	m.addAccept()
	m.addReads()
	m.startAtZero()
	return m
}

// addAccept adds the families about trades on their way to the log.
func (m *metrics) addAccept() {
	m.accepted = m.Histogram("tradestore_accept_duration_seconds", "Time from the arrival of a trade to its 202.",
		telemetry.Durations)
	m.delivered = m.Counter("tradestore_accept_delivered_total",
		"Trades whose record all in-sync replicas have acknowledged, whether or not the 202 was still in time.")
	m.shed = m.CountersOf("tradestore_accept_shed_total",
		"Trades refused before any store was called, by cause: items or bytes (the queue is full), late (it is too long "+
			"to be served in time), partition (of the log, which takes no records), or closed for the drain.",
		"cause", shedItems, shedBytes, shedLate, shedPartition, shedClosed)
	m.partitionShut = m.Gauges("tradestore_accept_partition_shut",
		"1 while trades of a partition are refused because the log takes no records of it, else 0.", "partition")
	m.queueWait = m.Histogram("tradestore_accept_queue_wait_seconds", "Time that an accepted trade waited for a flush.",
		telemetry.Durations)
	m.batchSize = m.Histogram("tradestore_accept_batch_size", "Trades per flush.", telemetry.Sizes)
	stages := m.Histograms("tradestore_accept_stage_duration_seconds",
		"Time of each stage of a flush: lookup (of versions) and open (PENDING) per batch, produce per record until it "+
			"was acknowledged.", telemetry.Durations, "stage")
	m.lookUpStage, m.openStage = stages.WithLabelValues(stageLookUp), stages.WithLabelValues(stageOpen)
	m.produceStage = stages.WithLabelValues(stageProduce)
	m.failedOpen = m.Counter("tradestore_accept_lookups_failed_open_total",
		"Version look-ups that failed or took too long, so that their batch went on unchecked.")
	m.unknown = m.CountersOf("tradestore_accept_unknown_total",
		"Requests whose PENDING was sent and that were not acknowledged, by the stage that failed.",
		"stage", stageOpen, stageDeadline, stageProduce)
	m.keyed = m.CountersOf("tradestore_accept_keyed_total", "Requests under idempotency keys, by what their key led to.",
		"result", keyOpened, keyReopened, keyReplayed, keyInProgress, keyReused, keyExhausted)
	m.bulkItems = m.CountersOf("tradestore_accept_bulk_items_total",
		"Trades of bulk requests, by what their client was told: accepted (202), refused (4xx), unavailable (503, no "+
			"effect), or unknown (500, 503 with an id).",
		"result", bulkAccepted, bulkRefused, bulkUnavailable, bulkUnknown)
}

// addReads adds the families about waits, streams and the lag.
func (m *metrics) addReads() {
	m.waits = m.CountersOf("tradestore_wait_total",
		"Calls that preferred to wait for the outcome, by how that ended: ended (the outcome came in time), timeout, "+
			"refused (too many calls wait), drained, or peer_closed (the client left).",
		"result", waitEnded, waitTimeout, waitRefused, waitDrained, waitPeerClosed)
	m.outcomeReads = m.Histogram("tradestore_wait_read_duration_seconds",
		"Time of one read of the outcomes that clients wait for, of up to 500 requests.", telemetry.Durations)
	m.outcomeErrors = m.Counter("tradestore_wait_read_errors_total", "Such reads that failed. They are repeated.")
	m.exports = m.CountersOf("tradestore_http_exports_total",
		"Exports by how they ended: whole, slow (the client did not take it fast enough), left (the client hung up), or "+
			"failed (a store did not answer, or the process ends).",
		"result", exportWhole, exportSlow, exportLeft, exportFailed)
	m.lagErrors = m.Counter("tradestore_lag_read_errors_total", "Failed reads of the log and its positions.")
	m.events = m.Counter("tradestore_stream_events_total", "Events written to streams.")
	m.followReads = m.Histogram("tradestore_stream_read_duration_seconds",
		"Time of one read of the journal for those who follow a trade.", telemetry.Durations)
	m.followErrors = m.Counter("tradestore_stream_read_errors_total", "Such reads that failed. They are repeated.")
}

// startAtZero makes the series whose labels are known beforehand, so that a rate sees their first increment.
func (m *metrics) startAtZero() {
	for code := range problemTypes {
		m.problems.WithLabelValues(string(code))
	}
	m.requests.WithLabelValues(tradesPath, fasthttp.MethodPost, strconv.Itoa(fasthttp.StatusOK))
	for _, status := range []int{fasthttp.StatusBadRequest, fasthttp.StatusTooManyRequests,
		fasthttp.StatusInternalServerError, fasthttp.StatusServiceUnavailable} {
		m.requests.WithLabelValues(tradesPath, fasthttp.MethodPost, strconv.Itoa(status))
		m.requests.WithLabelValues(bulkPath, fasthttp.MethodPost, strconv.Itoa(status))
	}
}

// routeAtZero makes the series of a route, for its success.
func (m *metrics) routeAtZero(route, method string) {
	status := fasthttp.StatusOK
	switch {
	case route == bulkPath:
		status = fasthttp.StatusMultiStatus
	case method == fasthttp.MethodPost:
		status = fasthttp.StatusAccepted
	}
	m.requests.WithLabelValues(route, method, strconv.Itoa(status))
	m.latency.WithLabelValues(route, method)
}
