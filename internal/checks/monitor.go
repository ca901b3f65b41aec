package checks

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// Part makes the checks of one store. A check that can't be made is Unknown, never left out. A Part returns soon after
// the end of ctx. One goroutine at a time calls it.
type Part func(ctx context.Context) []Check

// rules are the rules that checks belong to, and statuses their results: the labels of the metric.
var (
	rules    = []string{"T1", "T2", "T3", "T4", "T5", "T6", "T7", "T11", "T12"}
	statuses = []Status{OK, Failed, Unconfirmed, Warning, Skipped, Unknown}
)

// A check that a failover can show for a moment counts as Failed when it has failed in leastLooks rounds, the first and
// the last of them ConfirmFor apart (rule T8). A round in which it could not be made neither confirms nor refutes it.
const (
	ConfirmFor = 2 * time.Minute // longer than a failover that nobody has to end by hand
	leastLooks = 3
)

// Config says how a Monitor works.
type Config struct {
	Registry prometheus.Registerer
	Log      zerolog.Logger // of warnings, when they change
	Limit    time.Duration  // for one round of all checks

	// ConfirmFor is how long a check must fail that a failover can show for a moment. Before that it is Unconfirmed. 0
	// confirms nothing: it is Failed at once.
	ConfirmFor time.Duration
}

// Monitor makes all checks of a process, confirms those that need it and counts their results.
type Monitor struct {
	cfg     Config
	results *prometheus.GaugeVec // by rule and status
	mu      sync.Mutex           // one round at a time: protects all below
	parts   []Part
	suspect map[string]failing // checks that have to be confirmed, by rule and name
	warned  string             // the warnings that were logged last
}

// failing is a check that fails and is not yet confirmed.
type failing struct {
	since time.Time
	looks int
}

// NewMonitor joins the parts. Errors: metrics registered already.
func NewMonitor(cfg Config, parts ...Part) (*Monitor, error) {
	m := &Monitor{cfg: cfg, parts: parts, suspect: map[string]failing{}}
	m.results = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "tradestore", Name: "checks",
		Help: "Checks of the last round, by rule and status: ok, failed, unconfirmed when a failover can show the same " +
			"for a moment, warning, skipped, or unknown when one could not be made.",
	}, []string{"rule", "status"})
	if err := cfg.Registry.Register(m.results); err != nil {
		return nil, fmt.Errorf("cannot register the metrics of the checks: %w", err)
	}
	m.count(nil)
	return m, nil
}

// All makes every check and returns them in the order of the rules.
func (m *Monitor) All(ctx context.Context) []Check {
	m.mu.Lock()
	defer m.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Limit)
	defer cancel()
	found := make([][]Check, len(m.parts))
	var all sync.WaitGroup
	for i, part := range m.parts {
		all.Go(func() { found[i] = part(ctx) })
	}
	all.Wait()
	checks := slices.Concat(found...)
	if m.cfg.ConfirmFor > 0 {
		m.confirm(checks)
	}
	m.count(checks)
	m.warn(checks)
	return checks
}

// Err makes every check and evaluates the list, as the function Err does.
func (m *Monitor) Err(ctx context.Context) error { return Err(m.All(ctx)) }

// confirm makes failed checks Unconfirmed that a failover can show for a moment, until they are confirmed.
func (m *Monitor) confirm(checks []Check) {
	for i := range checks {
		c := &checks[i]
		key := c.ID + " " + c.Name
		switch {
		case c.Status == Failed && c.transient:
			f, known := m.suspect[key]
			if !known {
				f.since = time.Now()
			}
			f.looks++
			m.suspect[key] = f
			if f.looks < leastLooks || time.Since(f.since) < m.cfg.ConfirmFor {
				c.Status = Unconfirmed
			}
		case c.Status != Unknown:
			delete(m.suspect, key)
		}
	}
}

// warn logs the warnings of a round if they are not those of the round before.
func (m *Monitor) warn(checks []Check) {
	var warnings, names []string
	for _, c := range checks {
		if c.Status == Warning {
			warnings, names = append(warnings, c.String()), append(names, c.Name)
		}
	}
	now := strings.Join(names, "; ") // not the values, which may change from round to round
	if now != m.warned && now != "" {
		m.cfg.Log.Warn().Strs("checks", warnings).Msg("a store or a clock is not as it should be")
	}
	m.warned = now
}

// count sets every series, so that no result of an earlier round stays.
func (m *Monitor) count(checks []Check) {
	for _, rule := range rules {
		for _, status := range statuses {
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
