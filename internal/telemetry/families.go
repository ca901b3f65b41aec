package telemetry

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The sets of classic buckets. Histograms of one kind share a set, so that they can be compared in one panel. 0.1 s and
// 1 s are the limits of the objectives.
var (
	// Durations is for work that has a time limit.
	Durations = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	// Ages is for waits without a limit.
	Ages = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600}
	// Sizes is for the size of a batch.
	Sizes = prometheus.ExponentialBuckets(1, 2, 15)
)

// Families makes metric families and remembers them for Register. The zero value has none.
type Families struct{ all []prometheus.Collector }

// Counter makes a counter without labels.
func (f *Families) Counter(name, help string) prometheus.Counter {
	return keep(f, prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help}))
}

// Counters makes counters with labels. Label values must be a bounded set: never an id, never input of a client.
func (f *Families) Counters(name, help string, labels ...string) *prometheus.CounterVec {
	return keep(f, prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels))
}

// CountersOf makes one counter for each value of a label, where all values are known.
func (f *Families) CountersOf(name, help, label string, values ...string) map[string]prometheus.Counter {
	family, of := f.Counters(name, help, label), make(map[string]prometheus.Counter, len(values))
	for _, value := range values {
		of[value] = family.WithLabelValues(value)
	}
	return of
}

// Gauge makes a gauge without labels.
func (f *Families) Gauge(name, help string) prometheus.Gauge {
	return keep(f, prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help}))
}

// Gauges makes gauges with labels, under the rule of Counters.
func (f *Families) Gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	return keep(f, prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels))
}

// GaugeFunc makes a gauge that is read at each scrape.
func (f *Families) GaugeFunc(name, help string, value func() float64) {
	keep(f, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
}

// Histogram makes a histogram without labels. buckets is one of the sets above.
func (f *Families) Histogram(name, help string, buckets []float64) prometheus.Histogram {
	return keep(f, prometheus.NewHistogram(histogram(name, help, buckets)))
}

// Histograms makes histograms with labels, under the rule of Counters.
func (f *Families) Histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return keep(f, prometheus.NewHistogramVec(histogram(name, help, buckets), labels))
}

// Add adds a collector that was made elsewhere.
func (f *Families) Add(c prometheus.Collector) { keep(f, c) }

// Register registers the families of an owner. Errors: a name is registered already, because two owners share a
// registry.
func (f *Families) Register(reg prometheus.Registerer, owner string) error {
	for _, c := range f.all {
		if err := reg.Register(c); err != nil {
			return fmt.Errorf("cannot register the metrics of %s: %w", owner, err)
		}
	}
	return nil
}

// histogram sets up every histogram in both forms: classic buckets for the text format, and native buckets, which are
// about 10 % wide, for a Prometheus that asks for them. The native form loses precision before it grows without bound.
func histogram(name, help string, buckets []float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  160,
		NativeHistogramMinResetDuration: time.Hour,
	}
}

func keep[T prometheus.Collector](f *Families, family T) T {
	f.all = append(f.all, family)
	return family
}
