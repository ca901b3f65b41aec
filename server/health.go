package server

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"
)

// Check is something that has to be well for the service to be.
type Check struct {
	Name  string                      // as shown to clients, like "database"
	Probe func(context.Context) error // nil when all is well; may be called from any goroutine, one call at a time
	Spare bool                        // trades are accepted without it: health tells, readiness does not depend on it
}

// Values of status in the answers about health.
const (
	statusOK          = "ok"
	statusUnavailable = "unavailable" // the probe failed
	statusTimeout     = "timeout"     // the probe took longer than the setting probe-timeout
	statusDraining    = "draining"
	statusFailed      = "failed" // at least one check is not ok
)

// health asks the checks, all at once. Calls that come together share one round, and its result is given again for a
// while, so that a flood of calls is no flood of probes.
type health struct {
	checks  []Check
	timeout time.Duration // of a probe
	maxAge  time.Duration // of a result
	busy    []atomic.Bool // by check: a probe that outlived its time is not joined by a second one
	m       *metrics
	log     zerolog.Logger

	mu    sync.Mutex // protects round
	round *round     // begun last; nil before the first
}

// round is one question to every check.
type round struct {
	done    chan struct{} // closed when the rest is filled in
	results []result      // in the order of the checks
	at      time.Time     // when the results were complete
}

type result struct {
	status string
	took   time.Duration
	err    error // for the log alone: clients see the status
}

func newHealth(cfg *Config, checks []Check, m *metrics, log zerolog.Logger) *health {
	for _, check := range checks {
		m.checkUp.WithLabelValues(check.Name)
	}
	return &health{checks: checks, timeout: cfg.ProbeTimeout, maxAge: cfg.ProbeMaxAge, busy: make([]atomic.Bool, len(checks)), m: m, log: log}
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

// run asks every check and waits for the answers, but not for a probe that ignores its time limit.
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

// probe runs one check. A probe that panics is a check that failed, not the end of the process.
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

// note counts the result of a check and logs a change of it, once.
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

// checkReport and healthReport are the shape of GET /api/v1/health.
type checkReport struct {
	Status string  `json:"status"`
	TookMS float64 `json:"took_ms"` // how long the probe took, at the latest asking
}

type healthReport struct {
	Status string                 `json:"status"`
	Checks map[string]checkReport `json:"checks"`
}

// report sums up. The service itself is the check "api".
func (s *Server) report() (r healthReport, well bool) {
	results := s.health.ask()
	r = healthReport{Status: statusOK, Checks: map[string]checkReport{"api": {Status: statusOK}}}
	if s.draining.Load() {
		r.Status = statusFailed
		r.Checks["api"] = checkReport{Status: statusDraining}
	}
	for i, check := range s.health.checks {
		r.Checks[check.Name] = checkReport{results[i].status, float64(results[i].took.Microseconds()) / 1000}
		if results[i].status != statusOK {
			r.Status = statusFailed
		}
	}
	return r, r.Status == statusOK
}

// getHealth answers GET /api/v1/health: for people and for load balancers that read JSON.
func (s *Server) getHealth(c *call) {
	report, well := s.report()
	body, err := json.Marshal(report)
	if err != nil {
		c.refuse(problem{code: Internal, detail: "cannot write the report"})
		return
	}
	c.json(statusFor(well), body)
}

// getReady answers GET /readyz: whether new requests should be sent here.
func (s *Server) getReady(c *call) {
	if s.draining.Load() { // known without asking anyone
		c.json(fasthttp.StatusServiceUnavailable, []byte(`{"status":"`+statusDraining+`"}`))
		return
	}
	status := statusOK
	for i, r := range s.health.ask() {
		if r.status != statusOK && !s.health.checks[i].Spare {
			status = statusFailed
		}
	}
	c.json(statusFor(status == statusOK), []byte(`{"status":"`+status+`"}`))
}

// getLive answers GET /livez: whether the process is worth keeping. Nothing outside it can change that.
func (s *Server) getLive(c *call) { c.json(fasthttp.StatusOK, []byte(`{"status":"`+statusOK+`"}`)) }

func statusFor(well bool) int {
	if well {
		return fasthttp.StatusOK
	}
	return fasthttp.StatusServiceUnavailable
}
