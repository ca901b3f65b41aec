package worker

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// collector answers each scrape with what is known of the partitions held now.
type collector struct{ w *Worker }

var (
	positionDesc = newDesc("tradestore_apply_position", "Next offset to apply.", "partition")
	lagDesc      = newDesc("tradestore_apply_lag_records",
		"Offsets between the position and the end of the log as last seen.", "partition")
	lagAgeDesc = newDesc("tradestore_apply_lag_seconds",
		"Time since the oldest record not yet applied was accepted; 0 without lag.", "partition")
	partitionsDesc      = newDesc("tradestore_apply_partitions", "Partitions held by this worker.")
	topicPartitionsDesc = newDesc("tradestore_apply_topic_partitions",
		"Partitions that the topic has, which the workers share (--partitions).")
	lanesDesc        = newDesc("tradestore_apply_lanes", "Loops that apply at once (--lanes).")
	refusedInRowDesc = newDesc("tradestore_apply_refused_in_a_row",
		"Records in a row that the store refused, the most of all lanes.")
	pendingDesc = newDesc("tradestore_orphan_oldest_seconds",
		"Time since the oldest request of held partitions that stays PENDING was accepted; 0 without one.")
	unprojectedDesc = newDesc("tradestore_projection_lag_seconds",
		"Time since the oldest outcome not yet visible was decided; 0 without lag.")
	readyDesc = newDesc("tradestore_worker_ready",
		"1 while the worker applies what it holds, else 0: what /readyz says.")
)

func newDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// Describe sends the descriptions.
func (collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		positionDesc, lagDesc, lagAgeDesc, partitionsDesc, topicPartitionsDesc, lanesDesc, refusedInRowDesc, pendingDesc,
		unprojectedDesc, readyDesc,
	} {
		ch <- d
	}
}

// Collect sends the values.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	now, refusedInRow := c.w.deps.Now(), int64(0)
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	states := map[int32]partitionState{} // a lane that does not know that it lost a partition reports it too: one counts
	for _, l := range c.w.lanes {
		refusedInRow = max(refusedInRow, l.refusedInRow.Load())
		for partition, p := range l.assigned.states() {
			if other, ok := states[partition]; !ok || other.next < p.next {
				states[partition] = p
			}
		}
	}
	for partition, p := range states {
		label, oldest := strconv.Itoa(int(partition)), 0.0
		if p.end > p.next && !p.oldest.IsZero() {
			oldest = age(now, p.oldest)
		}
		gauge(positionDesc, float64(p.next), label)
		gauge(lagDesc, float64(max(0, p.end-p.next)), label)
		gauge(lagAgeDesc, oldest, label)
	}
	gauge(partitionsDesc, float64(len(states)))
	gauge(topicPartitionsDesc, float64(c.w.cfg.Partitions))
	gauge(lanesDesc, float64(len(c.w.lanes)))
	gauge(refusedInRowDesc, float64(refusedInRow))
	since := func(micros int64) float64 {
		if micros == 0 {
			return 0
		}
		return age(now, time.UnixMicro(micros))
	}
	gauge(pendingDesc, since(c.w.metrics.pendingSince.Load()))
	gauge(unprojectedDesc, since(c.w.metrics.unprojectedSince.Load()))
	ready := 1.0
	if c.w.Ready() != nil {
		ready = 0
	}
	gauge(readyDesc, ready)
}
