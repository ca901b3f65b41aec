package server

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
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

// The options of the spans of POSTs. They are made once, because the sampler sees them each time.
var (
	ofServer       = trace.WithSpanKind(trace.SpanKindServer)
	ofPost, ofBulk = ofRoute(tradesPath), ofRoute(bulkPath)
)

func ofRoute(path string) trace.SpanStartOption {
	return trace.WithAttributes(semconv.HTTPRequestMethodPost, semconv.URLScheme("http"), semconv.URLPath(path),
		semconv.HTTPRoute(path))
}

// observer records the stages of a POST, one call per stage: metrics, with exemplars of sampled posts, and spans.
// Without a tracer it allocates nothing.
type observer struct {
	m      *metrics
	tracer *telemetry.Tracer // nil traces nothing
	topic  string
}

// startSpan decides whether the call is traced: with the client's trace, or in one of its own. From then on the call,
// its record and its journal row carry the span as their traceparent; without a span, what the client sent.
func (o *observer) startSpan(c *call, name string, of trace.SpanStartOption) {
	c.traceParent = c.head.traceParent
	if o.tracer == nil {
		return
	}
	parent := telemetry.SpanContext(c.traceParent)
	if c.span = o.tracer.Start(parent, name, of, ofServer, trace.WithTimestamp(c.start)); c.span != nil {
		c.traceParent = telemetry.TraceParent(c.span.SpanContext())
	}
}

// dequeued notes that a flush has taken the batch from the queue.
func (o *observer) dequeued(batch []*pendingPost) {
	now := time.Now()
	o.m.batchSize.Observe(float64(len(batch)))
	for _, post := range batch {
		telemetry.Observe(o.m.queueWait, now.Sub(post.arrived).Seconds(), post.req.TraceParent)
		if post.span != nil {
			o.tracer.Record(post.span.SpanContext(), spanQueue, post.arrived, now, nil, ofBatch(batch))
		}
	}
}

// keysRead notes that the entries of idempotency keys were read.
func (o *observer) keysRead(batch []*pendingPost, start time.Time, err error) {
	o.spans(batch, spanKeys, start, func(int) error { return err })
}

// lookedUp notes the version look-up of a batch.
func (o *observer) lookedUp(batch []*pendingPost, start time.Time, err error) {
	if err != nil {
		o.m.failedOpen.Inc()
	}
	o.batch(batch, o.m.lookUpStage, spanLookUp, start, func(int) error { return err })
}

// opened notes that PENDING was sent for a batch.
func (o *observer) opened(batch []*pendingPost, start time.Time, errs []error) {
	o.batch(batch, o.m.openStage, spanOpen, start, func(i int) error { return errAt(errs, i) })
}

// produced notes that a record was acknowledged, or was not.
func (o *observer) produced(post *pendingPost, start time.Time, err error) {
	now := time.Now()
	if err == nil {
		o.m.delivered.Inc()
	} else {
		o.unknown(stageProduce)
	}
	telemetry.Observe(o.m.produceStage, now.Sub(start).Seconds(), post.req.TraceParent)
	if post.span == nil {
		return
	}
	o.tracer.Record(post.span.SpanContext(), spanProduce+o.topic, start, now, err,
		trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(semconv.MessagingSystemKafka, semconv.MessagingOperationTypeSend,
			semconv.MessagingOperationName("send"), semconv.MessagingDestinationName(o.topic),
			semconv.MessagingDestinationPartitionID(strconv.Itoa(int(post.req.Partition)))))
}

// accepted notes a 202.
func (o *observer) accepted(c *call, took time.Duration) {
	telemetry.Observe(o.m.accepted, took.Seconds(), c.traceParent)
}

// waited notes that a call has waited for an outcome.
func (o *observer) waited(c *call, start time.Time) {
	now := time.Now()
	c.waited = now.Sub(start)
	if c.span != nil {
		o.tracer.Record(c.span.SpanContext(), spanWait, start, now, nil)
	}
}

// answered notes the end of a call.
func (o *observer) answered(c *call, status int, took time.Duration) {
	method := methodLabel(c.ctx.Method())
	o.m.inFlight.Dec()
	o.m.requests.WithLabelValues(c.route, method, strconv.Itoa(status)).Inc()
	telemetry.Observe(o.m.latency.WithLabelValues(c.route, method), took.Seconds(), c.traceParent)
	o.endSpan(c, status)
}

// unknown counts a request whose PENDING was sent and that was not acknowledged.
func (o *observer) unknown(stage string) { o.m.unknown[stage].Inc() }

// panicked counts a panic that was caught.
func (o *observer) panicked() { o.m.panics.Inc() }

// endSpan ends the span of the call, if it has one.
func (o *observer) endSpan(c *call, status int) {
	if c.span == nil {
		return
	}
	c.span.SetAttributes(semconv.HTTPResponseStatusCode(status),
		attribute.String("tradestore.correlation_id", c.correlationID))
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

// batch notes a stage that a batch has passed together. Its exemplar is the first post that is sampled.
func (o *observer) batch(batch []*pendingPost, duration prometheus.Observer, span string, start time.Time,
	failed func(int) error) {
	sampled := ""
	for _, post := range batch {
		if telemetry.IsSampled(post.req.TraceParent) {
			sampled = post.req.TraceParent
			break
		}
	}
	telemetry.Observe(duration, time.Since(start).Seconds(), sampled)
	o.spans(batch, span, start, failed)
}

// spans makes a span of a stage for each post of the batch that is traced. failed returns the error of post i.
func (o *observer) spans(batch []*pendingPost, name string, start time.Time, failed func(int) error) {
	now := time.Now()
	for i, post := range batch {
		if post.span != nil {
			o.tracer.Record(post.span.SpanContext(), name, start, now, failed(i), ofBatch(batch))
		}
	}
}

func ofBatch(batch []*pendingPost) trace.SpanStartOption {
	return trace.WithAttributes(attribute.Int("tradestore.batch.size", len(batch)))
}
