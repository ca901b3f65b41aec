package kafka

import (
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kprom"
)

// newClientMetrics returns the metrics of one client, tradestore_kafka_..., told apart by the label client. They are
// not in a registry yet: kprom would panic on a name that is taken, Register returns an error.
func newClientMetrics(clientID string) *kprom.Metrics {
	return kprom.NewMetrics("tradestore",
		kprom.Subsystem("kafka"),
		kprom.Registry(nil),
		kprom.WithStaticLabel(prometheus.Labels{"client": clientID}),
		kprom.BrokerLabels(),
		kprom.FetchAndProduceDetail(kprom.Batches, kprom.Records, kprom.CompressedBytes, kprom.UncompressedBytes, kprom.ConsistentNaming),
		kprom.Histograms(kprom.RequestDurationE2E, kprom.RequestThrottled),
	)
}

// fromStart shows the families of a client from its start, at zero. The library's own collector shows each with its first
// event, which a rate would then miss.
type fromStart struct {
	*kprom.Metrics
	zeros []prometheus.Metric // of what may still have no event
}

// newFromStart is called when the client exists: its families are made with it.
func newFromStart(metrics *kprom.Metrics) *fromStart {
	descs := make(chan *prometheus.Desc)
	go func() {
		metrics.Describe(descs)
		close(descs)
	}()
	c := &fromStart{Metrics: metrics}
	for d := range descs {
		switch name, _, _ := strings.Cut(d.String(), ","); {
		case strings.HasSuffix(name, `_total"`):
			c.zeros = append(c.zeros, prometheus.MustNewConstMetric(d, prometheus.CounterValue, 0))
		case strings.HasSuffix(name, `_request_duration_e2e_seconds"`), strings.HasSuffix(name, `_request_throttled_seconds"`):
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
func (c *fromStart) Collect(ch chan<- prometheus.Metric) {
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

// unregister takes the metrics of a client away with the client, so that another of the same name may follow it. It knows
// them by their names, whichever collector shows them.
type unregister struct {
	metrics *kprom.Metrics
	reg     prometheus.Registerer
}

// OnClientClosed is called by the client at its end.
func (u unregister) OnClientClosed(*kgo.Client) { u.reg.Unregister(u.metrics) }

// logger hands the client's own lines to zerolog. They name brokers, topics and partitions, never keys or values.
type logger struct{ log zerolog.Logger }

var levels = map[kgo.LogLevel]zerolog.Level{
	kgo.LogLevelError: zerolog.WarnLevel, // the client goes on by itself; what it can't mend comes back as an error
	kgo.LogLevelWarn:  zerolog.WarnLevel,
	kgo.LogLevelInfo:  zerolog.DebugLevel,
}

// Level returns the most detailed level that is shown.
func (l logger) Level() kgo.LogLevel {
	if l.log.GetLevel() <= zerolog.DebugLevel {
		return kgo.LogLevelInfo
	}
	return kgo.LogLevelWarn
}

// Log writes one line; keyvals alternate between names and values.
func (l logger) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	event := l.log.WithLevel(levels[level])
	for i := 0; i+1 < len(keyvals); i += 2 {
		event = event.Str(fmt.Sprint(keyvals[i]), fmt.Sprint(keyvals[i+1]))
	}
	event.Msg("kafka: " + msg)
}
