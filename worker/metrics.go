package worker

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tradestore/trade"
)

// metrics counts what the worker does. Those of a partition are collected from the lanes at each scrape, so a partition
// that went to another worker is gone from here at once.
type metrics struct {
	atCommit bool // clients see outcomes from their commit on

	rows, duplicates, deadLetters, fenced, splits, refused, commitErrors prometheus.Counter

	outcomes     *prometheus.CounterVec // by status and reason
	retries      *prometheus.CounterVec // by class
	batchRecords prometheus.Histogram
	applySeconds *prometheus.HistogramVec // by result: ok or the class of the error
	endToEnd     prometheus.Histogram

	settledTotal   *prometheus.CounterVec // by status
	settleErrors   prometheus.Counter
	settleSeconds  prometheus.Histogram
	settleAge      prometheus.Histogram
	unsettledSince atomic.Int64 // when the oldest unsettled outcome was decided, in microseconds since 1970; 0 for none

	pending                          *prometheus.GaugeVec // by what they wait for
	closed, projected, resolveErrors prometheus.Counter
	pendingSince                     atomic.Int64 // when the oldest request in pending was accepted, in microseconds since 1970; 0 for none

	swept       *prometheus.CounterVec // by kind
	sweepErrors prometheus.Counter
	lastSweep   prometheus.Gauge
	stopped     prometheus.Gauge
}

// Reasons to repeat that are no class of a store's error.
var otherRetries = []string{"client", "group", "check"}

// What a request that stays PENDING waits for, before it can be closed.
const (
	forTime     = "time"     // until no server can answer 202 any more
	forPosition = "position" // until everything in the log by then is applied
)

// newMetrics registers every family of the worker, with the labels that are known beforehand.
func newMetrics(reg prometheus.Registerer, w *Worker) (*metrics, error) {
	var all []prometheus.Collector
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "tradestore", Name: name, Help: help})
		all = append(all, c)
		return c
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "tradestore", Name: name, Help: help}, labels)
		all = append(all, c)
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "tradestore", Name: name, Help: help})
		all = append(all, g)
		return g
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "tradestore", Name: name, Help: help, Buckets: buckets})
		all = append(all, h)
		return h
	}
	durations := prometheus.ExponentialBuckets(0.001, 2, 16) // 1 ms to 33 s
	ages := prometheus.ExponentialBuckets(0.004, 2, 18)      // 4 ms to 9 min
	m := &metrics{
		rows:         counter("apply_rows_total", "Trades inserted or replaced."),
		outcomes:     counters("apply_outcomes_total", "Requests decided, by status and reason.", "status", "reason"),
		duplicates:   counter("apply_duplicates_total", "Records of requests that had been decided before."),
		deadLetters:  counter("apply_dead_letters_total", "Records kept as dead letters."),
		retries:      counters("apply_retries_total", "Attempts repeated, by class of the error or part that failed.", "class"),
		fenced:       counter("apply_fenced_total", "Batches dropped because another worker had moved a position."),
		splits:       counter("apply_splits_total", "Batches halved because the store refused one of their records."),
		refused:      counter("apply_refused_records_total", "Records that the store refused; a series of them stops the worker."),
		batchRecords: histogram("apply_batch_records", "Records in one committed transaction.", prometheus.ExponentialBuckets(1, 2, 14)),
		endToEnd:     histogram("apply_end_to_end_seconds", "From acceptance of a trade to its commit.", ages),
		commitErrors: counter("apply_group_commit_errors_total", "Commits of the group offset that failed; it is only a hint of the lag."),

		settledTotal:  counters("settle_outcomes_total", "Outcomes made visible in the request log, by status.", "status"),
		settleErrors:  counter("settle_errors_total", "Steps of the settler that failed and were repeated."),
		settleSeconds: histogram("settle_duration_seconds", "Time of one step of the settler.", durations),
		settleAge:     histogram("settle_delay_seconds", "From the decision to the outcome being visible.", ages),

		closed:        counter("resolve_closed_total", "Requests closed as NOT_DELIVERED because their trade never reached the log."),
		projected:     counter("resolve_projected_total", "Requests found PENDING that had an outcome, which was shown."),
		resolveErrors: counter("resolve_errors_total", "Looks for requests that stay PENDING that failed and were repeated."),

		swept:       counters("swept_total", "Days and rows deleted because they were past their retention, by kind.", "kind"),
		sweepErrors: counter("sweep_errors_total", "Sweeps that failed and were repeated."),
		lastSweep:   gauge("sweep_last_success_timestamp_seconds", "When the last sweep ended well; 0 before the first."),
		stopped:     gauge("worker_stopped", "1 after a loud stop: what the worker relies on does not hold."),
	}
	m.applySeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "tradestore", Name: "apply_duration_seconds", Help: "Time of one apply transaction, by result: ok or the class of the error.", Buckets: durations,
	}, []string{"result"})
	m.pending = newPending()
	all = append(all, m.applySeconds, m.pending, collector{w, m})
	m.start()
	for _, c := range all {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func newPending() *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "tradestore", Name: "resolve_pending_requests", Help: "Requests of held partitions that stay PENDING, by what they wait for before they are closed.",
	}, []string{"waits_for"})
}

// start makes the series that are known beforehand, so that a rate over them is right from the first event on.
func (m *metrics) start() {
	m.applySeconds.WithLabelValues("ok")
	for c := trade.Unavailable; c <= trade.Broken; c++ {
		m.applySeconds.WithLabelValues(c.String())
		m.retries.WithLabelValues(c.String())
	}
	for _, c := range otherRetries {
		m.retries.WithLabelValues(c)
	}
	m.outcomes.WithLabelValues(string(trade.Success), "")
	m.outcomes.WithLabelValues(string(trade.Failed), string(trade.StaleVersion))
	m.outcomes.WithLabelValues(string(trade.Failed), string(trade.InvalidRecord))
	m.outcomes.WithLabelValues(string(trade.Failed), string(trade.NotDelivered))
	m.pending.WithLabelValues(forTime)
	m.pending.WithLabelValues(forPosition)
	m.settledTotal.WithLabelValues(string(trade.Success))
	m.settledTotal.WithLabelValues(string(trade.Failed))
	for _, kind := range []string{"journal_days", "journal_rows", "pending_rows", "dead_letters"} {
		m.swept.WithLabelValues(kind)
	}
}

// applied counts a committed part. The counts are zero when an earlier attempt committed it and only the answer was lost.
func (m *metrics) applied(part *trade.Batch, a trade.Applied, now time.Time) {
	m.batchRecords.Observe(float64(len(part.Records)))
	if a != (trade.Applied{}) {
		m.rows.Add(float64(a.Rows))
		m.duplicates.Add(float64(a.Duplicates))
		m.deadLetters.Add(float64(a.DeadLetters))
		m.outcomes.WithLabelValues(string(trade.Failed), string(trade.StaleVersion)).Add(float64(a.Stale))
		m.outcomes.WithLabelValues(string(trade.Failed), string(trade.InvalidRecord)).Add(float64(a.Invalid))
		stored := float64(max(0, len(part.Records)-a.Stale-a.Invalid-a.Duplicates))
		m.outcomes.WithLabelValues(string(trade.Success), "").Add(stored)
		if m.atCommit {
			m.settledTotal.WithLabelValues(string(trade.Success)).Add(stored)
			m.settledTotal.WithLabelValues(string(trade.Failed)).Add(float64(a.Stale + a.Invalid))
		}
	}
	for i := range part.Records {
		if at := part.Records[i].AcceptedAt; !at.IsZero() {
			m.endToEnd.Observe(max(0, now.Sub(at).Seconds()))
		}
	}
}

// settled counts outcomes that clients can see now.
func (m *metrics) settled(outcomes []trade.Outcome, took time.Duration, now time.Time) {
	m.settleSeconds.Observe(took.Seconds())
	for i := range outcomes {
		m.settledTotal.WithLabelValues(string(outcomes[i].Status)).Inc()
		m.settleAge.Observe(max(0, now.Sub(outcomes[i].DecidedAt).Seconds()))
	}
}

// collector answers, at each scrape, what is known of the partitions held now.
type collector struct {
	w *Worker
	m *metrics
}

var (
	positionDesc = prometheus.NewDesc("tradestore_apply_position", "Next offset to apply.", []string{"partition"}, nil)
	lagDesc      = prometheus.NewDesc("tradestore_apply_lag_records", "Offsets between the position and the end of the log as last seen.", []string{"partition"}, nil)
	lagAgeDesc   = prometheus.NewDesc("tradestore_apply_lag_seconds", "Time since the oldest record not yet applied was accepted; 0 without lag.", []string{"partition"}, nil)
	inRowDesc    = prometheus.NewDesc("tradestore_apply_refused_in_a_row", "Records in a row that the store refused, the most of all lanes.", nil, nil)
	pendingDesc  = prometheus.NewDesc("tradestore_resolve_oldest_seconds", "Time since the oldest request of held partitions that stays PENDING was accepted; 0 without one.", nil, nil)
	unsettled    = prometheus.NewDesc("tradestore_settle_lag_seconds", "Time since the oldest outcome not yet visible was decided; 0 without lag.", nil, nil)
)

// Describe sends the descriptions.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{positionDesc, lagDesc, lagAgeDesc, inRowDesc, pendingDesc, unsettled} {
		ch <- d
	}
}

// Collect sends the values.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	now, inRow := c.w.deps.Now(), int64(0)
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	places := map[int32]place{} // a lane that lost a partition unknowingly may still hold it: each is reported once
	for _, l := range c.w.lanes {
		inRow = max(inRow, l.refused.Load())
		for partition, p := range l.held.places() {
			if other, ok := places[partition]; !ok || other.next < p.next {
				places[partition] = p
			}
		}
	}
	for partition, p := range places {
		label, age := strconv.Itoa(int(partition)), 0.0
		if p.end > p.next && !p.oldest.IsZero() {
			age = max(0, now.Sub(p.oldest).Seconds())
		}
		gauge(positionDesc, float64(p.next), label)
		gauge(lagDesc, float64(max(0, p.end-p.next)), label)
		gauge(lagAgeDesc, age, label)
	}
	gauge(inRowDesc, float64(inRow))
	since := func(micros int64) float64 {
		if micros == 0 {
			return 0
		}
		return max(0, now.Sub(time.UnixMicro(micros)).Seconds())
	}
	gauge(pendingDesc, since(c.m.pendingSince.Load()))
	gauge(unsettled, since(c.m.unsettledSince.Load()))
}
