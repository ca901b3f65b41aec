package kafka

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kprom"
)

// newClientMetrics returns the metrics of one client, tradestore_kafka_..., with the label client. The caller registers
// them: kprom would panic on a name that is taken, Register returns an error.
func newClientMetrics(clientID string) *kprom.Metrics {
	return kprom.NewMetrics("tradestore",
		kprom.Subsystem("kafka"),
		kprom.Registry(nil),
		kprom.WithStaticLabel(prometheus.Labels{"client": clientID}),
		kprom.BrokerLabels(),
		kprom.FetchAndProduceDetail(kprom.Batches, kprom.Records, kprom.CompressedBytes, kprom.UncompressedBytes,
			kprom.ConsistentNaming),
		kprom.Histograms(kprom.RequestDurationE2E, kprom.RequestThrottled),
	)
}

// zeroMetrics exports every metric of a client from its start, at zero. kprom exports a metric with its first event,
// and a rate would miss that event.
type zeroMetrics struct {
	*kprom.Metrics
	zeros []prometheus.Metric // one per metric family, exported until it has a value
}

// newZeroMetrics must be called after the client was made: only then kprom knows its metrics.
func newZeroMetrics(metrics *kprom.Metrics) *zeroMetrics {
	descs := make(chan *prometheus.Desc)
	go func() {
		metrics.Describe(descs)
		close(descs)
	}()
	c := &zeroMetrics{Metrics: metrics}
	for d := range descs {
		switch name, _, _ := strings.Cut(d.String(), ","); {
		case strings.HasSuffix(name, `_total"`):
			c.zeros = append(c.zeros, prometheus.MustNewConstMetric(d, prometheus.CounterValue, 0))
		case strings.HasSuffix(name, `_request_duration_e2e_seconds"`),
			strings.HasSuffix(name, `_request_throttled_seconds"`):
			empty := make(map[float64]uint64, len(kprom.DefBuckets))
			for _, bound := range kprom.DefBuckets {
				empty[bound] = 0
			}
			c.zeros = append(c.zeros, prometheus.MustNewConstHistogram(d, 0, 0, empty))
		}
	}
	return c
}

// Collect implements prometheus.Collector.
func (c *zeroMetrics) Collect(ch chan<- prometheus.Metric) {
	found := make(chan prometheus.Metric)
	go func() {
		c.Metrics.Collect(found)
		close(found)
	}()
	seen := map[*prometheus.Desc]bool{}
	for m := range found {
		seen[m.Desc()] = true
		ch <- m
	}
	for _, zero := range c.zeros {
		if !seen[zero.Desc()] {
			ch <- zero
		}
	}
}

// unregister unregisters the metrics of a client that is closed, so that the next client may have the same name. The
// registry compares names, so it does not matter which collector exports them.
type unregister struct {
	metrics *kprom.Metrics
	reg     prometheus.Registerer
}

// OnClientClosed implements kgo.HookClientClosed.
func (u unregister) OnClientClosed(*kgo.Client) { u.reg.Unregister(u.metrics) }
