package server

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"tradestore/trade"
)

// metrics are the families that the server counts. Every label has a bounded set of values.
type metrics struct {
	requests     *prometheus.CounterVec   // route, method, code
	latency      *prometheus.HistogramVec // route
	problems     *prometheus.CounterVec   // code
	panics       prometheus.Counter
	connsRefused *prometheus.CounterVec // cause
	acceptErrors prometheus.Counter
	checkUp      *prometheus.GaugeVec // check

	shed         *prometheus.CounterVec // cause
	queueWait    prometheus.Histogram
	batchSize    prometheus.Histogram
	stages       *prometheus.HistogramVec // stage
	failedOpen   prometheus.Counter
	unknown      *prometheus.CounterVec // stage
	keyed        *prometheus.CounterVec // result
	lookUpStage  prometheus.Observer
	openStage    prometheus.Observer
	produceStage prometheus.Observer

	all []prometheus.Collector
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

func newMetrics() *metrics {
	seconds := []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}
	m := &metrics{}
	m.requests = keep(m, prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tradestore_http_requests_total",
		Help: "HTTP requests answered, by route, method and status code."}, []string{"route", "method", "code"}))
	m.latency = keep(m, prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "tradestore_http_request_duration_seconds",
		Help: "Time from a request that was read to its answer, by route.", Buckets: seconds}, []string{"route"}))
	m.problems = keep(m, prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tradestore_http_problems_total",
		Help: "Requests refused or failed, by the code of the problem document."}, []string{"code"}))
	m.panics = keep(m, prometheus.NewCounter(prometheus.CounterOpts{Name: "tradestore_http_panics_total",
		Help: "Panics that were caught. Each is a bug."}))
	m.connsRefused = keep(m, prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tradestore_http_connections_refused_total",
		Help: "Connections refused because too many are open, by the code of the problem document."}, []string{"code"}))
	m.acceptErrors = keep(m, prometheus.NewCounter(prometheus.CounterOpts{Name: "tradestore_http_accept_errors_total",
		Help: "Connections that could not be taken because the process or the machine was out of descriptors or memory."}))
	m.checkUp = keep(m, prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "tradestore_health_check_up",
		Help: "1 if the last probe of the check was well, else 0."}, []string{"check"}))
	m.shed = keep(m, prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tradestore_accept_shed_total",
		Help: "Trades refused before any store was called, by what was full: items, bytes, or closed for the drain."}, []string{"cause"}))
	m.queueWait = keep(m, prometheus.NewHistogram(prometheus.HistogramOpts{Name: "tradestore_accept_queue_wait_seconds",
		Help: "Time that an accepted trade waited for a flush.", Buckets: seconds}))
	m.batchSize = keep(m, prometheus.NewHistogram(prometheus.HistogramOpts{Name: "tradestore_accept_batch_size",
		Help: "Trades per flush.", Buckets: prometheus.ExponentialBuckets(1, 2, 12)}))
	m.stages = keep(m, prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "tradestore_accept_stage_duration_seconds",
		Help:    "Time of each stage of a flush: lookup and open per batch, produce per record until it was acknowledged.",
		Buckets: seconds}, []string{"stage"}))
	m.failedOpen = keep(m, prometheus.NewCounter(prometheus.CounterOpts{Name: "tradestore_accept_lookups_failed_open_total",
		Help: "Version look-ups that failed or took too long, so that their batch went on unchecked."}))
	m.unknown = keep(m, prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tradestore_accept_unknown_total",
		Help: "Requests whose PENDING was sent and that were not acknowledged, by the stage that failed."}, []string{"stage"}))
	m.keyed = keep(m, prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tradestore_accept_keyed_total",
		Help: "Requests under idempotency keys, by what their key led to."}, []string{"result"}))
	m.lookUpStage = m.stages.WithLabelValues(stageLookUp)
	m.openStage = m.stages.WithLabelValues(stageOpen)
	m.produceStage = m.stages.WithLabelValues(stageProduce)
	m.startAtZero()
	return m
}

// startAtZero makes the series whose labels are known up front, so that a rate sees their first increment.
func (m *metrics) startAtZero() {
	for code := range problemTypes {
		m.problems.WithLabelValues(string(code))
	}
	for _, code := range []trade.Code{TooManyConnections, TooManyRequests} {
		m.connsRefused.WithLabelValues(string(code))
	}
	for _, cause := range []string{shedItems, shedBytes, shedLate, shedClosed} {
		m.shed.WithLabelValues(cause)
	}
	for _, stage := range []string{stageOpen, stageDeadline, stageProduce} {
		m.unknown.WithLabelValues(stage)
	}
	for _, result := range []string{keyOpened, keyReopened, keyReplayed, keyInProgress, keyReused, keyExhausted} {
		m.keyed.WithLabelValues(result)
	}
	for _, code := range []string{"202", "400", "503"} {
		m.requests.WithLabelValues(tradesPath, "POST", code)
	}
}

// keep remembers a family for register.
func keep[T prometheus.Collector](m *metrics, family T) T {
	m.all = append(m.all, family)
	return family
}

// gauge adds a family that is read when it is asked for.
func (m *metrics) gauge(name, help string, value func() int) {
	keep(m, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(value()) }))
}

// register makes the families visible. Error: one of them is registered already, so two servers share a registry.
func (m *metrics) register(reg prometheus.Registerer) error {
	for _, family := range m.all {
		if err := reg.Register(family); err != nil {
			return fmt.Errorf("cannot register the metrics of the server: %w", err)
		}
	}
	return nil
}
