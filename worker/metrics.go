package worker

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tradestore/internal/telemetry"
	"tradestore/trade"
)

// metrics counts what the worker does. Metrics of a partition are collected from the lanes at each scrape (collector),
// so those of a partition that went to another worker are gone at once.
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

	visible           map[string]prometheus.Counter // outcomes that clients can see, by status
	visibleEndToEnd   prometheus.Histogram
	projectionErrors  prometheus.Counter
	projectionRefused prometheus.Counter
	projectionSeconds prometheus.Histogram
	projectionBatch   prometheus.Histogram
	projectionAge     prometheus.Histogram
	unprojectedSince  atomic.Int64 // when the oldest unprojected outcome was decided, µs since 1970; 0 for none

	pending                                       *prometheus.GaugeVec // by what they wait for
	unshown                                       prometheus.Gauge
	orphansClosed, orphansProjected, orphanErrors prometheus.Counter
	pendingSince                                  atomic.Int64 // when the oldest request in pending was accepted, likewise

	sweptBy     map[string]prometheus.Counter // by kind
	sweepErrors prometheus.Counter
	lastSweep   prometheus.Gauge

	summarized    prometheus.Counter
	summaryErrors prometheus.Counter
	stopped       prometheus.Gauge
}

// otherRetries are the reasons to repeat that are not a class of a store's error.
var otherRetries = []string{"client", "group", "check"}

// What a request that stays PENDING waits for, before it can be closed.
const (
	forTime     = "time"     // until no server can answer 202 any more
	forPosition = "position" // until everything in the log by then is applied
	forOperator = "operator" // because nobody can tell any more whether the log had its record
)

// newMetrics makes every family of the worker, with the labels that are known beforehand.
func newMetrics(w *Worker) *metrics {
	m := &metrics{atCommit: w.deps.OutcomesAtCommit}
	m.makeApply()
	m.makeProjection()
	m.makeUpkeep()
	m.Add(collector{w})
	m.makeSeries()
	return m
}

// makeApply makes the families of the lanes.
func (m *metrics) makeApply() {
	m.pollDelay = m.Histogram("tradestore_apply_poll_delay_seconds",
		"From acceptance of a trade to its record being polled by a lane.", telemetry.Ages)
	m.applySeconds = m.Histograms("tradestore_apply_duration_seconds",
		"Time of one apply transaction, by result: ok or the class of the error.", telemetry.Durations, "result")
	m.batchRecords = m.Histogram("tradestore_apply_batch_records",
		"Records in one committed transaction.", telemetry.Sizes)
	m.endToEnd = m.Histogram("tradestore_apply_end_to_end_seconds",
		"From acceptance of a trade to its commit.", telemetry.Ages)
	m.rows = m.Counter("tradestore_apply_rows_total", "Trades inserted or replaced.")
	m.outcomes = m.Counters("tradestore_apply_outcomes_total",
		"Requests decided, by status and reason.", "status", "reason")
	m.duplicates = m.Counter("tradestore_apply_duplicates_total", "Records of requests that had been decided before.")
	m.deadLetters = m.Counter("tradestore_apply_dead_letters_total", "Records kept as dead letters.")
	m.retries = m.Counters("tradestore_apply_retries_total",
		"Attempts repeated, by class of the error or part that failed.", "class")
	m.fenced = m.Counter("tradestore_apply_fenced_total",
		"Batches dropped because another worker had moved a position.")
	m.splits = m.Counter("tradestore_apply_splits_total",
		"Batches halved because the store refused one of their records.")
	m.refused = m.Counter("tradestore_apply_refused_records_total",
		"Records that the store refused; a series of them stops the worker.")
	m.commitErrors = m.Counter("tradestore_apply_group_commit_errors_total",
		"Commits of the group offset that failed; it is only a hint of the lag.")
}

// makeProjection makes the families about what clients can see.
func (m *metrics) makeProjection() {
	m.visible = m.CountersOf("tradestore_projection_outcomes_total", "Outcomes made visible to clients, by status.",
		"status", string(trade.Success), string(trade.Failed))
	m.visibleEndToEnd = m.Histogram("tradestore_projection_end_to_end_seconds",
		"From acceptance of a trade to its outcome being visible to clients, whatever the outcome.", telemetry.Ages)
	m.projectionErrors = m.Counter("tradestore_projection_errors_total",
		"Failed tries to project outcomes, one for each partition that waits for the repeat.")
	m.projectionRefused = m.Counter("tradestore_projection_refused_total",
		"Outcomes that the request store refused while it took others. Their requests stay PENDING; see "+
			"tradestore_orphan_unshown_requests.")
	m.projectionSeconds = m.Histogram("tradestore_projection_duration_seconds",
		"Time of one step of the projector; no values where outcomes are visible at their commit.", telemetry.Durations)
	m.projectionBatch = m.Histogram("tradestore_projection_batch_outcomes",
		"Outcomes in one step of the projector; no values where outcomes are visible at their commit.", telemetry.Sizes)
	m.projectionAge = m.Histogram("tradestore_projection_delay_seconds",
		"From the decision to the outcome being visible; no values where both are one commit.", telemetry.Ages)
}

// makeUpkeep makes the families of the orphan reaper, of the sweeper and of the worker as a whole.
func (m *metrics) makeUpkeep() {
	m.pending = m.Gauges("tradestore_orphan_pending_requests",
		"Requests of held partitions that stay PENDING, by what they wait for before they are closed.", "waits_for")
	m.unshown = m.Gauge("tradestore_orphan_unshown_requests",
		"Requests of held partitions that stay PENDING although they have an outcome: the request store did not take it.")
	m.orphansClosed = m.Counter("tradestore_orphan_closed_total",
		"Requests closed as NOT_DELIVERED because their trade never reached the log.")
	m.orphansProjected = m.Counter("tradestore_orphan_projected_total",
		"Requests found PENDING that had an outcome, which was shown.")
	m.orphanErrors = m.Counter("tradestore_orphan_errors_total",
		"Failed searches for requests that stay PENDING. They are repeated.")
	m.sweptBy = m.CountersOf("tradestore_swept_total",
		"Days and rows deleted because they were past their retention, by kind.",
		"kind", "journal_days", "journal_rows", "pending_rows", "dead_letters")
	m.sweepErrors = m.Counter("tradestore_sweep_errors_total", "Sweeps that failed and were repeated.")
	m.lastSweep = m.Gauge("tradestore_sweep_last_success_timestamp_seconds",
		"When the last sweep ended well; 0 before the first.")
	m.summarized = m.Counter("tradestore_summary_ranges_total",
		"Ranges of the journal and of the requests that got a summary, by which a history skips them.")
	m.summaryErrors = m.Counter("tradestore_summary_errors_total", "Failed calls that make summaries. They are repeated.")
	m.stopped = m.Gauge("tradestore_worker_stopped", "1 after a loud stop: what the worker relies on does not hold.")
}

// makeSeries makes the series that are known beforehand, so that a rate over them is right from the first event on.
func (m *metrics) makeSeries() {
	m.applySeconds.WithLabelValues("ok")
	for c := trade.Unavailable; c <= trade.Broken; c++ {
		m.applySeconds.WithLabelValues(c.String())
		m.retries.WithLabelValues(c.String())
	}
	for _, reason := range otherRetries {
		m.retries.WithLabelValues(reason)
	}
	m.outcomes.WithLabelValues(string(trade.Success), "")
	for _, reason := range []trade.Code{trade.StaleVersion, trade.InvalidRecord, trade.NotDelivered} {
		m.outcomes.WithLabelValues(string(trade.Failed), string(reason))
	}
	m.pending.WithLabelValues(forTime)
	m.pending.WithLabelValues(forPosition)
	m.pending.WithLabelValues(forOperator)
}

// applied counts a committed part. The counts are zero when only the answer of the attempt that committed it was lost.
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
			m.visible[string(trade.Success)].Add(stored)
			m.visible[string(trade.Failed)].Add(float64(a.Stale + a.Invalid))
		}
	}
	m.observeAges(m.endToEnd, part, now)
	if m.atCommit {
		m.observeAges(m.visibleEndToEnd, part, now)
	}
}

// polled counts records that a lane has in hand.
func (m *metrics) polled(batch *trade.Batch, now time.Time) { m.observeAges(m.pollDelay, batch, now) }

// observeAges adds the time since acceptance of each record. A record without a readable time has no age.
func (*metrics) observeAges(ages prometheus.Histogram, batch *trade.Batch, now time.Time) {
	for i := range batch.Records {
		if r := &batch.Records[i]; !r.AcceptedAt.IsZero() {
			telemetry.Observe(ages, age(now, r.AcceptedAt), r.TraceParent)
		}
	}
}

// projected counts outcomes that clients can see now.
func (m *metrics) projected(outcomes []trade.Decision, took time.Duration, now time.Time) {
	m.projectionSeconds.Observe(took.Seconds())
	m.projectionBatch.Observe(float64(len(outcomes)))
	for i := range outcomes {
		d := &outcomes[i]
		m.visible[string(d.Status)].Inc()
		telemetry.Observe(m.projectionAge, age(now, d.DecidedAt), d.TraceParent)
		telemetry.Observe(m.visibleEndToEnd, age(now, d.AcceptedAt), d.TraceParent)
	}
}

// orphans shows the requests that stay PENDING by what they wait for, each list oldest first. The age is that of the
// oldest one that ends by itself.
func (m *metrics) orphans(byWait map[string][]trade.PendingRequest) {
	since := int64(0)
	for _, waits := range []string{forTime, forPosition, forOperator} {
		list := byWait[waits]
		m.pending.WithLabelValues(waits).Set(float64(len(list)))
		if len(list) == 0 || waits == forOperator {
			continue
		}
		if oldest := list[0].AcceptedAt.UnixMicro(); since == 0 || oldest < since {
			since = oldest
		}
	}
	m.pendingSince.Store(since)
}

// swept counts what a sweep deleted.
func (m *metrics) swept(s trade.Swept) {
	m.sweptBy["journal_days"].Add(float64(s.JournalDays))
	m.sweptBy["journal_rows"].Add(float64(s.JournalRows))
	m.sweptBy["pending_rows"].Add(float64(s.PendingRows))
	m.sweptBy["dead_letters"].Add(float64(s.DeadLetters))
}

// age is how many seconds ago something happened, on a clock that may be behind ours or ahead of it.
func age(now, at time.Time) float64 { return max(0, now.Sub(at).Seconds()) }
