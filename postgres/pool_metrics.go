package postgres

import (
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

// poolCollector exports the state of one connection pool, from counters that the pool has anyway.
type poolCollector struct {
	pool    *pgxpool.Pool
	metrics []poolMetric
}

type poolMetric struct {
	desc   *prometheus.Desc
	kind   prometheus.ValueType
	labels []string
	value  func(s *pgxpool.Stat) float64
}

func newPoolCollector(name string, pool *pgxpool.Pool) *poolCollector {
	c := &poolCollector{pool: pool}
	constant := prometheus.Labels{"pool": name}
	desc := func(metric, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("tradestore_postgres_pool_"+metric, help, labels, constant)
	}
	add := func(d *prometheus.Desc, kind prometheus.ValueType, value func(s *pgxpool.Stat) float64, labels ...string) {
		c.metrics = append(c.metrics, poolMetric{d, kind, labels, value})
	}
	gauge, counter := prometheus.GaugeValue, prometheus.CounterValue

	conns := desc("connections", "Connections of the pool by state.", "state")
	add(conns, gauge, func(s *pgxpool.Stat) float64 { return float64(s.AcquiredConns()) }, "in_use")
	add(conns, gauge, func(s *pgxpool.Stat) float64 { return float64(s.IdleConns()) }, "idle")
	add(conns, gauge, func(s *pgxpool.Stat) float64 { return float64(s.ConstructingConns()) }, "connecting")
	add(desc("connections_limit", "Upper limit of connections in the pool."), gauge,
		func(s *pgxpool.Stat) float64 { return float64(s.MaxConns()) })
	add(desc("opened_connections_total", "Connections opened."), counter,
		func(s *pgxpool.Stat) float64 { return float64(s.NewConnsCount()) })

	acquires := desc("acquires_total", "Requests for a connection, by result: at_once, waited or cancelled.", "result")
	add(acquires, counter, func(s *pgxpool.Stat) float64 {
		return float64(s.AcquireCount() - s.EmptyAcquireCount())
	}, "at_once")
	add(acquires, counter, func(s *pgxpool.Stat) float64 { return float64(s.EmptyAcquireCount()) }, "waited")
	add(acquires, counter, func(s *pgxpool.Stat) float64 { return float64(s.CanceledAcquireCount()) }, "cancelled")
	add(desc("acquire_wait_seconds_total", "Time that callers waited for a connection because none was idle."), counter,
		func(s *pgxpool.Stat) float64 { return s.EmptyAcquireWaitTime().Seconds() })
	return c
}

// Describe implements prometheus.Collector.
func (c *poolCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range c.metrics {
		ch <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *poolCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.pool.Stat()
	for _, m := range c.metrics {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(s), m.labels...)
	}
}
