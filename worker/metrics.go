package worker

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tradestore/internal/telemetry"
	"tradestore/trade"
)

// metrics counts what the worker does. Those of a partition are collected from the lanes at each scrape, so a partition
// that went to another worker is gone from here at once.
type metrics struct {
	telemetry.Families

	atCommit bool // clients see outcomes from their commit on

	pollDelay    prometheus.Histogram
	batchRecords prometheus.Histogram
	applySeconds *prometheus.HistogramVec // by result: ok or the class of the error
	endToEnd     prometheus.Histogram
	outcomes     *prometheus.CounterVec // by status and reason
	retries      *prometheus.CounterVec // by class

	rows, duplicates, deadLetters, fenced, splits, refused, commitErrors prometheus.Counter

	shown             map[string]prometheus.Counter // outcomes that clients can see, by status
	shownEndToEnd     prometheus.Histogram
	projectionErrors  prometheus.Counter
	projectionSeconds prometheus.Histogram
	projectionBatch   prometheus.Histogram
	projectionAge     prometheus.Histogram
	unprojectedSince  atomic.Int64 // when the oldest unprojected outcome was decided, in microseconds since 1970; 0 for none

	pending                         *prometheus.GaugeVec // by what they wait for
	closed, projected, orphanErrors prometheus.Counter
	pendingSince                    atomic.Int64 // when the oldest request in pending was accepted, in microseconds since 1970; 0 for none

	swept       map[string]prometheus.Counter // by kind
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
	m := &metrics{}
	m.ofApply()
	m.ofProjection()
	m.ofUpkeep()
	m.Add(collector{w, m})
	m.start()
	err := m.Register(reg, "the worker")
	return m, err
}

// ofApply makes the families of the lanes.
func (m *metrics) ofApply() {
	m.pollDelay = m.Histogram("tradestore_apply_poll_delay_seconds", "From acceptance of a trade to its record being polled by a lane.", telemetry.Ages)
	m.applySeconds = m.Histograms("tradestore_apply_duration_seconds",
		"Time of one apply transaction, by result: ok or the class of the error.", telemetry.Durations, "result")
	m.batchRecords = m.Histogram("tradestore_apply_batch_records", "Records in one committed transaction.", telemetry.Sizes)
	m.endToEnd = m.Histogram("tradestore_apply_end_to_end_seconds", "From acceptance of a trade to its commit.", telemetry.Ages)
	m.rows = m.Counter("tradestore_apply_rows_total", "Trades inserted or replaced.")
	m.outcomes = m.Counters("tradestore_apply_outcomes_total", "Requests decided, by status and reason.", "status", "reason")
	m.duplicates = m.Counter("tradestore_apply_duplicates_total", "Records of requests that had been decided before.")
	m.deadLetters = m.Counter("tradestore_apply_dead_letters_total", "Records kept as dead letters.")
	m.retries = m.Counters("tradestore_apply_retries_total", "Attempts repeated, by class of the error or part that failed.", "class")
	m.fenced = m.Counter("tradestore_apply_fenced_total", "Batches dropped because another worker had moved a position.")
	m.splits = m.Counter("tradestore_apply_splits_total", "Batches halved because the store refused one of their records.")
	m.refused = m.Counter("tradestore_apply_refused_records_total", "Records that the store refused; a series of them stops the worker.")
	m.commitErrors = m.Counter("tradestore_apply_group_commit_errors_total", "Commits of the group offset that failed; it is only a hint of the lag.")
}

// ofSettle makes the families about what clients can see.
func (m *metrics) ofProjection() {
	m.shown = m.CountersOf("tradestore_projection_outcomes_total", "Outcomes made visible to clients, by status.",
		"status", string(trade.Success), string(trade.Failed))
	m.shownEndToEnd = m.Histogram("tradestore_projection_end_to_end_seconds",
		"From acceptance of a trade to its outcome being visible to clients, whatever the outcome.", telemetry.Ages)
	m.projectionErrors = m.Counter("tradestore_projection_errors_total", "Steps of the projector that failed and were repeated.")
	m.projectionSeconds = m.Histogram("tradestore_projection_duration_seconds",
		"Time of one step of the projector; no values where outcomes are visible at their commit.", telemetry.Durations)
	m.projectionBatch = m.Histogram("tradestore_projection_batch_outcomes",
		"Outcomes in one step of the projector; no values where outcomes are visible at their commit.", telemetry.Sizes)
	m.projectionAge = m.Histogram("tradestore_projection_delay_seconds",
		"From the decision to the outcome being visible; no values where both are one commit.", telemetry.Ages)
}

// ofUpkeep makes the families of the orphan reaper, of the sweeper and of the worker as a whole.
func (m *metrics) ofUpkeep() {
	m.pending = m.Gauges("tradestore_orphan_pending_requests",
		"Requests of held partitions that stay PENDING, by what they wait for before they are closed.", "waits_for")
	m.closed = m.Counter("tradestore_orphan_closed_total", "Requests closed as NOT_DELIVERED because their trade never reached the log.")
	m.projected = m.Counter("tradestore_orphan_projected_total", "Requests found PENDING that had an outcome, which was shown.")
	m.orphanErrors = m.Counter("tradestore_orphan_errors_total", "Looks for requests that stay PENDING that failed and were repeated.")
	m.swept = m.CountersOf("tradestore_swept_total", "Days and rows deleted because they were past their retention, by kind.",
		"kind", "journal_days", "journal_rows", "pending_rows", "dead_letters")
	m.sweepErrors = m.Counter("tradestore_sweep_errors_total", "Sweeps that failed and were repeated.")
	m.lastSweep = m.Gauge("tradestore_sweep_last_success_timestamp_seconds", "When the last sweep ended well; 0 before the first.")
	m.stopped = m.Gauge("tradestore_worker_stopped", "1 after a loud stop: what the worker relies on does not hold.")
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
			m.shown[string(trade.Success)].Add(stored)
			m.shown[string(trade.Failed)].Add(float64(a.Stale + a.Invalid))
		}
	}
	for i := range part.Records {
		if at := part.Records[i].AcceptedAt; !at.IsZero() {
			took := age(now, at)
			telemetry.Observe(m.endToEnd, took, part.Records[i].TraceParent)
			if m.atCommit {
				telemetry.Observe(m.shownEndToEnd, took, part.Records[i].TraceParent)
			}
		}
	}
}

// polled counts records that a lane has in hand. A record without a readable time has nothing to measure from.
func (m *metrics) polled(batch *trade.Batch, now time.Time) {
	for i := range batch.Records {
		if at := batch.Records[i].AcceptedAt; !at.IsZero() {
			telemetry.Observe(m.pollDelay, age(now, at), batch.Records[i].TraceParent)
		}
	}
}

// projected counts outcomes that clients can see now.
func (m *metrics) projectiond(outcomes []trade.Decision, took time.Duration, now time.Time) {
	m.projectionSeconds.Observe(took.Seconds())
	m.projectionBatch.Observe(float64(len(outcomes)))
	for i := range outcomes {
		o := &outcomes[i]
		m.shown[string(o.Status)].Inc()
		telemetry.Observe(m.projectionAge, age(now, o.DecidedAt), o.TraceParent)
		telemetry.Observe(m.shownEndToEnd, age(now, o.AcceptedAt), o.TraceParent)
	}
}

// age is how many seconds ago something happened, on a clock that may be behind ours or ahead of it.
func age(now, at time.Time) float64 { return max(0, now.Sub(at).Seconds()) }

// collector answers, at each scrape, what is known of the partitions held now.
type collector struct {
	w *Worker
	m *metrics
}

var (
	positionDesc    = prometheus.NewDesc("tradestore_apply_position", "Next offset to apply.", []string{"partition"}, nil)
	lagDesc         = prometheus.NewDesc("tradestore_apply_lag_records", "Offsets between the position and the end of the log as last seen.", []string{"partition"}, nil)
	lagAgeDesc      = prometheus.NewDesc("tradestore_apply_lag_seconds", "Time since the oldest record not yet applied was accepted; 0 without lag.", []string{"partition"}, nil)
	partitionsDesc  = prometheus.NewDesc("tradestore_apply_partitions", "Partitions held by this worker.", nil, nil)
	ofTopicDesc     = prometheus.NewDesc("tradestore_apply_topic_partitions", "Partitions that the topic has, which the workers share (--partitions).", nil, nil)
	lanesDesc       = prometheus.NewDesc("tradestore_apply_lanes", "Loops that apply at once (--lanes).", nil, nil)
	inRowDesc       = prometheus.NewDesc("tradestore_apply_refused_in_a_row", "Records in a row that the store refused, the most of all lanes.", nil, nil)
	pendingDesc     = prometheus.NewDesc("tradestore_orphan_oldest_seconds", "Time since the oldest request of held partitions that stays PENDING was accepted; 0 without one.", nil, nil)
	unprojectedDesc = prometheus.NewDesc("tradestore_projection_lag_seconds", "Time since the oldest outcome not yet visible was decided; 0 without lag.", nil, nil)
	readyDesc       = prometheus.NewDesc("tradestore_worker_ready", "1 while the worker applies what it holds, else 0: what /readyz says.", nil, nil)
)

// Describe sends the descriptions.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{positionDesc, lagDesc, lagAgeDesc, partitionsDesc, ofTopicDesc, lanesDesc, inRowDesc, pendingDesc, unprojectedDesc, readyDesc} {
		ch <- d
	}
}

// Collect sends the values.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	now, inRow := c.w.deps.Now(), int64(0)
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	places := map[int32]partitionState{} // a lane that lost a partition unknowingly may still hold it: each is reported once
	for _, l := range c.w.lanes {
		inRow = max(inRow, l.refused.Load())
		for partition, p := range l.assigned.states() {
			if other, ok := places[partition]; !ok || other.next < p.next {
				places[partition] = p
			}
		}
	}
	for partition, p := range places {
		label, oldest := strconv.Itoa(int(partition)), 0.0
		if p.end > p.next && !p.oldest.IsZero() {
			oldest = age(now, p.oldest)
		}
		gauge(positionDesc, float64(p.next), label)
		gauge(lagDesc, float64(max(0, p.end-p.next)), label)
		gauge(lagAgeDesc, oldest, label)
	}
	gauge(partitionsDesc, float64(len(places)))
	gauge(ofTopicDesc, float64(c.w.cfg.Partitions))
	gauge(lanesDesc, float64(len(c.w.lanes)))
	gauge(inRowDesc, float64(inRow))
	since := func(micros int64) float64 {
		if micros == 0 {
			return 0
		}
		return age(now, time.UnixMicro(micros))
	}
	gauge(pendingDesc, since(c.m.pendingSince.Load()))
	gauge(unprojectedDesc, since(c.m.unprojectedSince.Load()))
	ready := 1.0
	if c.w.Ready() != nil {
		ready = 0
	}
	gauge(readyDesc, ready)
}
