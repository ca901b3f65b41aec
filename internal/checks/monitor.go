package checks

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Part makes the checks of one store. What it can't tell is Unknown, never left out. It is bounded by ctx, and called by
// one goroutine at a time.
type Part func(ctx context.Context) []Check

// rules that checks belong to, and so the labels of the metric.
var rules = []string{"T1", "T2", "T3", "T4", "T5", "T6", "T7"}

// Monitor makes all checks of a process and counts their results.
type Monitor struct {
	limit   time.Duration
	results *prometheus.GaugeVec // by rule and status
	mu      sync.Mutex           // one round at a time
	parts   []Part
}

// NewSurvey joins the parts; a round of all of them takes no longer than limit. Errors: metrics registered already.
func NewMonitor(reg prometheus.Registerer, limit time.Duration, parts ...Part) (*Monitor, error) {
	s := &Monitor{limit: limit, parts: parts, results: prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "tradestore", Name: "checks",
		Help: "Checks of the last round, by rule and status: ok, failed, skipped, or unknown when one could not be made.",
	}, []string{"rule", "status"})}
	if err := reg.Register(s.results); err != nil {
		return nil, fmt.Errorf("cannot register the metrics of the checks: %w", err)
	}
	s.count(nil)
	return s, nil
}

// All makes every check and returns them in the order of the rules.
func (s *Monitor) All(ctx context.Context) []Check {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	found := make([][]Check, len(s.parts))
	var all sync.WaitGroup
	for i, part := range s.parts {
		all.Go(func() { found[i] = part(ctx) })
	}
	all.Wait()
	checks := slices.Concat(found...)
	s.count(checks)
	return checks
}

// Err makes every check and judges the list, as the function Err does.
func (s *Monitor) Err(ctx context.Context) error { return Err(s.All(ctx)) }

// count sets every series, so that a result that is over does not stay.
func (s *Monitor) count(checks []Check) {
	for _, rule := range rules {
		for _, status := range []Status{OK, Failed, Skipped, Unknown} {
			n := 0
			for _, c := range checks {
				if c.ID == rule && c.Status == status {
					n++
				}
			}
			s.results.WithLabelValues(rule, string(status)).Set(float64(n))
		}
	}
}
