package server

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// Check is one condition for the health of the service.
type Check struct {
	Name  string                      // as shown to clients, like "database"
	Probe func(context.Context) error // nil: ok; may be called from any goroutine, one call at a time
	Spare bool                        // trades are accepted without it: health shows it, readiness ignores it
}

// Values of status in the answers about health.
const (
	statusOK          = "ok"
	statusUnavailable = "unavailable" // the probe failed
	statusTimeout     = "timeout"     // the probe took longer than ProbeTimeout
	statusDraining    = "draining"
	statusFailed      = "failed" // at least one check is not ok
)

// health runs the checks, all at once. Calls that come together share one round, and its results are reused for maxAge:
// a flood of calls is not a flood of probes.
type health struct {
	checks  []Check
	timeout time.Duration // of a probe
	maxAge  time.Duration // of a result
	busy    []atomic.Bool // by check: no second probe while one is under way
	m       *metrics
	log     zerolog.Logger

	mu    sync.Mutex // protects round
	round *round     // started last; nil before the first
}

// round is one run of all checks.
type round struct {
	done    chan struct{} // closed when the rest is filled in
	results []result      // in the order of the checks
	at      time.Time     // when the results were complete
}

type result struct {
	status string
	took   time.Duration
	err    error // for the log only: clients see the status
}

func newHealth(cfg *Config, checks []Check, m *metrics, log zerolog.Logger) *health {
	for _, check := range checks {
		m.checkUp.WithLabelValues(check.Name)
	}
	return &health{
		checks: checks, timeout: cfg.ProbeTimeout, maxAge: cfg.ProbeMaxAge, busy: make([]atomic.Bool, len(checks)),
		m: m, log: log,
	}
}

// ask returns results that are no older than maxAge.
func (h *health) ask() []result {
	h.mu.Lock()
	r := h.round
	if r == nil || r.isOlder(h.maxAge) {
		r = &round{done: make(chan struct{})}
		before := h.round
		h.round = r
		go h.run(r, before)
	}
	h.mu.Unlock()
	<-r.done
	return r.results
}

func (r *round) isOlder(age time.Duration) bool {
	select {
	case <-r.done:
		return time.Since(r.at) > age
	default: // under way
		return false
	}
}

// run probes every check and waits for the results, but not for a probe that ignores its time limit.
func (h *health) run(r, before *round) {
	ctx, cancel := context.WithTimeout(context.Background(), h.timeout)
	defer cancel()
	defer close(r.done)
	answers := make([]chan result, len(h.checks))
	for i := range h.checks {
		answers[i] = make(chan result, 1)
		if !h.busy[i].Swap(true) {
			go func() {
				r := h.probe(ctx, i)
				h.busy[i].Store(false)
				answers[i] <- r
			}()
		}
	}
	r.results = make([]result, len(h.checks))
	for i := range h.checks {
		select {
		case r.results[i] = <-answers[i]:
		case <-ctx.Done():
			r.results[i] = result{status: statusTimeout, took: h.timeout, err: ctx.Err()}
		}
		h.note(i, r.results[i], before)
	}
	r.at = time.Now()
}

// probe runs one check. A panic is a failed check, not the end of the process.
func (h *health) probe(ctx context.Context, i int) (r result) {
	start := time.Now()
	defer func() {
		if cause := recover(); cause != nil {
			h.m.panics.Inc()
			r = result{status: statusUnavailable, err: fmt.Errorf("panic in a probe: %v", cause)}
		}
		r.took = time.Since(start)
	}()
	err := h.checks[i].Probe(ctx)
	switch {
	case err == nil:
		return result{status: statusOK}
	case ctx.Err() != nil:
		return result{status: statusTimeout, err: err}
	}
	return result{status: statusUnavailable, err: err}
}

// note shows the result of a check as a metric and logs a change of it once.
func (h *health) note(i int, r result, before *round) {
	up := h.m.checkUp.WithLabelValues(h.checks[i].Name)
	up.Set(0)
	if r.status == statusOK {
		up.Set(1)
	}
	was := statusOK
	if before != nil {
		was = before.results[i].status
	}
	switch r.status {
	case was:
	case statusOK:
		h.log.Info().Str("check", h.checks[i].Name).Msg("check is well again")
	default:
		h.log.Warn().Err(r.err).Str("check", h.checks[i].Name).Str("status", r.status).Msg("check failed")
	}
}
