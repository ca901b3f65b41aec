package server

import (
	"runtime/debug"
	"strconv"
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

// call is one HTTP request while it is answered. It dies with its handler: what goes on keeps copies.
type call struct {
	srv           *Server
	ctx           *fasthttp.RequestCtx
	start         time.Time // carries the monotonic clock: deadlines count from here
	head          head
	correlationID string
	traceParent   string     // of the span, or as the client sent it; of calls that submit trades
	span          trace.Span // nil: not traced
	route         string     // path template, for metrics and the log

	waited time.Duration // because the client preferred to

	// For the log line, where known.
	code      trade.Code
	requestID trade.RequestID
	tradeID   string
}

// newCall reads what every request has. Each answer carries the correlation id from here on.
func (s *Server) newCall(ctx *fasthttp.RequestCtx) *call {
	c := &call{srv: s, ctx: ctx, start: time.Now(), head: readHead(ctx.Request.Header.RawHeaders()), route: noRoute}
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
	if seconds := c.retry(&p); seconds > 0 {
		c.retryAfter(seconds)
	}
	c.ctx.SetStatusCode(p.status())
	c.ctx.SetContentType(problemMedia)
	var room [512]byte
	c.ctx.Response.SetBody(p.append(room[:0], c.correlationID))
}

// retry returns how long a client should wait before it repeats what had this problem, in seconds; 0 for none.
func (c *call) retry(p *problem) int {
	if seconds := p.retry(); seconds == 0 || p.retryAfter > 0 {
		return seconds
	}
	return c.srv.lag.retryAfter()
}

func (c *call) retryAfter(seconds int) {
	c.ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, strconv.Itoa(seconds))
}

// finish ends every call, also one that panicked: the process lives on, and the connection, whose state is unknown,
// does not. It must be deferred itself, because it recovers.
func (c *call) finish() {
	if cause := recover(); cause != nil {
		c.srv.m.panics.Inc()
		c.srv.panics.Error().Interface("panic", cause).Bytes("stack", debug.Stack()).
			Str("correlation_id", c.correlationID).Func(telemetry.Traced(c.traceParent)).Str("route", c.route).Msg("panic in a handler")
		c.ctx.Response.Reset()
		c.ctx.Response.Header.Set(headerCorrelationID, c.correlationID)
		c.refuse(problem{code: Internal, detail: "a fault in the service; the effect of the call is unknown"})
		c.ctx.SetConnectionClose()
	}
	if c.srv.draining.Load() {
		c.ctx.SetConnectionClose() // the client's next request finds another server
	}
	c.srv.bodies.leave(&c.ctx.Request)
	took := time.Since(c.start) - c.waited
	status, method := c.ctx.Response.StatusCode(), methodLabel(c.ctx.Method())
	c.srv.m.inFlight.Dec()
	c.srv.m.requests.WithLabelValues(c.route, method, strconv.Itoa(status)).Inc()
	telemetry.Observe(c.srv.m.latency.WithLabelValues(c.route, method), took.Seconds(), c.traceParent)
	c.endSpan(status)
	c.log(status, took)
}

// log writes the line of the call: successes at debug, refusals at info and failures at warn, the last two sampled.
func (c *call) log(status int, took time.Duration) {
	var line *zerolog.Event
	switch {
	case status < 400, c.route == readyPath, c.route == healthPath: // why a probe fails has a line of its own, once
		line = c.srv.log.Debug()
	case status < 500:
		line = c.srv.refusals.Info()
	default:
		line = c.srv.failures.Warn()
	}
	if line == nil {
		return
	}
	line.Str("correlation_id", c.correlationID).Func(telemetry.Traced(c.traceParent)).Str("route", c.route).Str("method", methodLabel(c.ctx.Method())).
		Int("status", status).Dur("took_ms", took)
	if c.code != "" {
		line.Str("code", string(c.code))
	}
	if !c.requestID.IsZero() {
		line.Stringer("request_id", c.requestID)
	}
	if c.tradeID != "" {
		line.Str("trade_id", c.tradeID)
	}
	line.Msg("request")
}

// methodLabel bounds the values of a method, which a client may make up.
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
