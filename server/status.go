package server

import (
	"encoding/json"
	"fmt"

	"github.com/valyala/fasthttp"
)

// getLag answers GET /api/v1/lag.
func (s *Server) getLag(c *call, _ query) {
	report, err := s.lag.ask()
	var body []byte
	if err == nil {
		body, err = json.Marshal(report)
	}
	if err != nil {
		c.refuseRead(fmt.Errorf("cannot tell the lag: %w", err), "")
		return
	}
	c.json(fasthttp.StatusOK, body)
}

// checkReport and healthReport are the shape of GET /api/v1/health.
type checkReport struct {
	Status string  `json:"status"`
	TookMS float64 `json:"took_ms"` // duration of the latest probe
}

type healthReport struct {
	Status string                 `json:"status"`
	Checks map[string]checkReport `json:"checks"`
}

// getHealth answers GET /api/v1/health: for people and for load balancers that read JSON. The process is the check
// "api".
func (s *Server) getHealth(c *call) {
	report := healthReport{Status: statusOK, Checks: map[string]checkReport{"api": {Status: statusOK}}}
	if s.draining.Load() {
		report.Status = statusFailed
		report.Checks["api"] = checkReport{Status: statusDraining}
	}
	for i, r := range s.health.ask() {
		report.Checks[s.health.checks[i].Name] = checkReport{r.status, float64(r.took.Microseconds()) / 1000}
		if r.status != statusOK {
			report.Status = statusFailed
		}
	}
	body, err := json.Marshal(report)
	if err != nil {
		c.refuse(problem{code: Internal, detail: "cannot write the report"})
		return
	}
	c.json(statusFor(report.Status == statusOK), body)
}

// getReady answers GET /readyz: whether new requests should be sent here.
func (s *Server) getReady(c *call) {
	if s.draining.Load() { // no probe is needed
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

// getLive answers GET /livez: whether the process should live on. Nothing outside the process can change that.
func (s *Server) getLive(c *call) { c.json(fasthttp.StatusOK, []byte(`{"status":"`+statusOK+`"}`)) }

func statusFor(ok bool) int {
	if ok {
		return fasthttp.StatusOK
	}
	return fasthttp.StatusServiceUnavailable
}
