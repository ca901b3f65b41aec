package server

import (
	"strconv"
	"time"

	"github.com/valyala/fasthttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"tradestore/internal/telemetry"
)

// Names of the spans: of a POST, and below it in the order in which a trade passes them.
const (
	spanPost    = fasthttp.MethodPost + " " + tradesPath
	spanBulk    = fasthttp.MethodPost + " " + bulkPath
	spanQueue   = "wait in queue"
	spanKeys    = "read idempotency keys"
	spanLookUp  = "look up versions"
	spanOpen    = "open as PENDING"
	spanProduce = "send " // and the topic
	spanWait    = "wait for the outcome"
)

// ofServer and ofPost are the same for every POST of trades. They are made once, because the sampler sees them each time.
var ofServer = trace.WithSpanKind(trace.SpanKindServer)

var ofPost, ofBulk = ofRoute(tradesPath), ofRoute(bulkPath)

func ofRoute(path string) trace.SpanStartOption {
	return trace.WithAttributes(semconv.HTTPRequestMethodPost, semconv.URLScheme("http"), semconv.URLPath(path), semconv.HTTPRoute(path))
}

// startSpan decides whether the call is traced: with the client's trace, or in one of its own. From then on the call, its
// record and its journal row carry the span as their traceparent; without one, what the client sent.
func (s *Server) startSpan(c *call, name string, of trace.SpanStartOption) {
	c.traceParent = c.head.traceParent
	if s.tracer == nil {
		return
	}
	c.span = s.tracer.Start(telemetry.SpanContext(c.traceParent), name, of, ofServer, trace.WithTimestamp(c.start))
	if c.span != nil {
		c.traceParent = telemetry.TraceParent(c.span.SpanContext())
	}
}

// endSpan ends the span of the call, if it has one.
func (c *call) endSpan(status int) {
	if c.span == nil {
		return
	}
	c.span.SetAttributes(semconv.HTTPResponseStatusCode(status), attribute.String("tradestore.correlation_id", c.correlationID))
	if !c.requestID.IsZero() {
		c.span.SetAttributes(attribute.String("tradestore.request_id", c.requestID.String()))
	}
	if c.tradeID != "" {
		c.span.SetAttributes(attribute.String("tradestore.trade_id", c.tradeID))
	}
	if c.code != "" {
		c.span.SetAttributes(attribute.String("tradestore.code", string(c.code)))
	}
	if status >= fasthttp.StatusInternalServerError {
		c.span.SetAttributes(semconv.ErrorTypeKey.String(string(c.code)))
		c.span.SetStatus(codes.Error, "")
	}
	c.span.End()
}

// traceStage makes a span of a stage that the batch has passed together, for each of its submissions that is traced.
// failed says what went wrong for the submission at an index.
func (b *batcher) traceStage(batch []*pendingPost, name string, from time.Time, failed func(int) error) {
	now := time.Now()
	for i, s := range batch {
		if s.span != nil {
			b.tracer.Record(s.span.SpanContext(), name, from, now, failed(i), ofBatch(batch))
		}
	}
}

func ofBatch(batch []*pendingPost) trace.SpanStartOption {
	return trace.WithAttributes(attribute.Int("tradestore.batch.size", len(batch)))
}

// traceProduce makes a span of a record that was acknowledged, or not.
func (b *batcher) traceProduce(s *pendingPost, from time.Time, err error) {
	if s.span == nil {
		return
	}
	b.tracer.Record(s.span.SpanContext(), spanProduce+b.cfg.Topic, from, time.Now(), err, trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(semconv.MessagingSystemKafka, semconv.MessagingOperationTypeSend, semconv.MessagingOperationName("send"),
			semconv.MessagingDestinationName(b.cfg.Topic), semconv.MessagingDestinationPartitionID(strconv.Itoa(int(s.req.Partition)))))
}

// sampledOf returns the traceparent of the first submission that is traced: the exemplar of what a batch does together.
func sampledOf(batch []*pendingPost) string {
	for _, s := range batch {
		if telemetry.IsSampled(s.req.TraceParent) {
			return s.req.TraceParent
		}
	}
	return ""
}
