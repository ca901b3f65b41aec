package checks

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Part makes the checks of one store. A check that can't be made is Unknown, never left out. A Part returns soon after
// the end of ctx. One goroutine at a time calls it.
type Part func(ctx context.Context) []Check

// rules are the rules that checks belong to, and the labels of the metric.
var rules = []string{"T1", "T2", "T3", "T4", "T5", "T6", "T7", "T12"}

// Monitor makes all checks of a process and counts their results.
type Monitor struct {
	limit   time.Duration
	results *prometheus.GaugeVec // by rule and status
	mu      sync.Mutex           // one round at a time
	parts   []Part
}

// NewMonitor joins the parts. A round of all of them takes at most limit. Errors: metrics registered already.
func NewMonitor(reg prometheus.Registerer, limit time.Duration, parts ...Part) (*Monitor, error) {
	m := &Monitor{limit: limit, parts: parts, results: prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "tradestore", Name: "checks",
		Help: "Checks of the last round, by rule and status: ok, failed, skipped, or unknown when one could not be made.",
	}, []string{"rule", "status"})}
	if err := reg.Register(m.results); err != nil {
		return nil, fmt.Errorf("cannot register the metrics of the checks: %w", err)
	}
	m.count(nil)
	return m, nil
}

// All makes every check and returns them in the order of the rules.
func (m *Monitor) All(ctx context.Context) []Check {
	m.mu.Lock()
	defer m.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, m.limit)
	defer cancel()
	found := make([][]Check, len(m.parts))
	var all sync.WaitGroup
	for i, part := range m.parts {
		all.Go(func() { found[i] = part(ctx) })
	}
	all.Wait()
	checks := slices.Concat(found...)
	m.count(checks)
	return checks
}

// Err makes every check and evaluates the list, as the function Err does.
func (m *Monitor) Err(ctx context.Context) error { return Err(m.All(ctx)) }

// count sets every series, so that no result of an earlier round stays.
func (m *Monitor) count(checks []Check) {
	for _, rule := range rules {
		for _, status := range []Status{OK, Failed, Skipped, Unknown} {
			n := 0
			for _, c := range checks {
				if c.ID == rule && c.Status == status {
					n++
				}
			}
			m.results.WithLabelValues(rule, string(status)).Set(float64(n))
		}
	}
}
