package server

import (
	"runtime/debug"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"
	"go.opentelemetry.io/otel/trace"

	"tradestore/internal/telemetry"
	"tradestore/trade"
)

// Names of the headers that the service answers with. fasthttp writes them in its own capitals.
const (
	headerCorrelationID = "X-Correlation-Id"
	headerCacheControl  = "Cache-Control"
	headerReplayed      = "Idempotency-Replayed"
	headerApplied       = "Preference-Applied"
	mediaJSON           = "application/json"
)

const noRoute = "none" // route label of requests that reached no route

// call is one HTTP request until its answer. It ends with its handler: what outlives that is copied (C7).
type call struct {
	srv           *Server
	ctx           *fasthttp.RequestCtx
	start         time.Time // carries the monotonic clock: deadlines count from here
	head          head
	correlationID string
	traceParent   string     // of the span, or as the client sent it; of calls that submit trades
	span          trace.Span // nil: not traced
	route         string     // path template, for metrics and the log

	waited time.Duration // of the duration: the client preferred to wait

	// For the log line, where known.
	code      trade.Code
	requestID trade.RequestID
	tradeID   string
}

// newCall reads the headers. Each answer carries the correlation id from here on.
func (s *Server) newCall(ctx *fasthttp.RequestCtx) *call {
	c := &call{srv: s, ctx: ctx, start: time.Now(), route: noRoute}
	c.head = readHead(ctx.Request.Header.RawHeaders())
	if c.correlationID = c.head.correlationID; c.correlationID == "" {
		c.correlationID = newCorrelationID()
	}
	ctx.Response.Header.Set(headerCorrelationID, c.correlationID)
	s.m.inFlight.Inc()
	return c
}

// json answers with a document.
func (c *call) json(status int, body []byte) {
	c.ctx.SetStatusCode(status)
	c.ctx.SetContentType(mediaJSON)
	c.ctx.Response.SetBody(body)
}

// refuse answers with a problem document.
func (c *call) refuse(p problem) {
	c.code = p.code
	c.srv.m.problems.WithLabelValues(string(p.code)).Inc()
	header := &c.ctx.Response.Header
	header.Set(headerCacheControl, "no-store")
	c.setRetryAfter(c.retry(&p))
	c.ctx.SetStatusCode(p.status())
	c.ctx.SetContentType(problemMedia)
	var room [512]byte
	c.ctx.Response.SetBody(p.append(room[:0], c.correlationID))
}

// finish ends every call, also one that panicked: the process lives on; the connection is closed, because its state is
// unknown (C7). It must be deferred directly, because it recovers.
func (c *call) finish() {
	if cause := recover(); cause != nil {
		c.srv.observe.panicked()
		c.srv.panics.Error().Interface("panic", cause).Bytes("stack", debug.Stack()).
			Str("correlation_id", c.correlationID).Func(telemetry.Traced(c.traceParent)).Str("route", c.route).
			Msg("panic in a handler")
		c.ctx.Response.Reset()
		c.ctx.Response.Header.Set(headerCorrelationID, c.correlationID)
		c.refuse(problem{code: Internal, detail: "a fault in the service; the effect of the call is unknown"})
		c.ctx.SetConnectionClose()
	}
	if c.srv.draining.Load() {
		c.ctx.SetConnectionClose() // the client's next request finds another server
	}
	c.srv.bodies.leave(&c.ctx.Request)
	status, took := c.ctx.Response.StatusCode(), time.Since(c.start)-c.waited
	c.srv.observe.answered(c, status, took)
	c.log(status, took)
}

// log logs the call: successes at debug, refusals at info and failures at warn, the last two sampled.
func (c *call) log(status int, took time.Duration) {
	var event *zerolog.Event
	switch {
	case status < 400, c.route == readyPath, c.route == healthPath: // health logs a failed probe, once
		event = c.srv.log.Debug()
	case status < 500:
		event = c.srv.refusals.Info()
	default:
		event = c.srv.failures.Warn()
	}
	if event == nil {
		return
	}
	event.Str("correlation_id", c.correlationID).Func(telemetry.Traced(c.traceParent)).Str("route", c.route).
		Str("method", methodLabel(c.ctx.Method())).Int("status", status).Dur("took_ms", took)
	if c.code != "" {
		event.Str("code", string(c.code))
	}
	if !c.requestID.IsZero() {
		event.Stringer("request_id", c.requestID)
	}
	if c.tradeID != "" {
		event.Str("trade_id", c.tradeID)
	}
	event.Msg("request")
}

// methodLabel bounds the values of the label: a client may invent methods.
func methodLabel(method []byte) string {
	switch m := string(method); m {
	case fasthttp.MethodGet:
		return fasthttp.MethodGet
	case fasthttp.MethodHead:
		return fasthttp.MethodHead
	case fasthttp.MethodPost:
		return fasthttp.MethodPost
	}
	return "other"
}
