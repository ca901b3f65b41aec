package worker

import (
	"strconv"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"tradestore/internal/telemetry"
	"tradestore/trade"
)

// observer reports what the worker does, in metrics, spans and log lines: one call for each stage. Spans are made when
// the stage is over, so a batch that is dropped leaves none open. Requests that are not traced cost no allocation.
type observer struct {
	metrics *metrics
	tracer  *telemetry.Tracer // nil when tracing is off
	sampled zerolog.Logger    // lines about single requests: a bad log or an outage makes very many of them
	now     func() time.Time
	topic   string
}

// laneObserver reports the stages of one lane.
type laneObserver struct {
	*observer
	lane        int
	log         zerolog.Logger
	transaction trace.SpanContext // of the last attempt to store records that are traced
}

// Names of the spans of the worker.
const (
	spanApply   = "apply transaction"
	spanProcess = "process " // and the topic
	spanProject = "project"
)

// maxLinks bounds the links of a span: as many as an SDK keeps (OpenTelemetry specification, span limits).
const maxLinks = 128

// polled reports a batch that a lane has in hand.
func (o *laneObserver) polled(batch *trade.Batch) { o.metrics.polled(batch, o.now()) }

// transacted reports one apply transaction. Its exemplar is the first traced record.
func (o *laneObserver) transacted(part *trade.Batch, began time.Time, err error) {
	result := "ok"
	if err != nil {
		result = trade.ClassOf(err).String()
	}
	exemplar := ""
	for i := range part.Records {
		if exemplar = part.Records[i].TraceParent; telemetry.IsSampled(exemplar) {
			break
		}
	}
	took := time.Since(began).Seconds()
	telemetry.Observe(o.metrics.applySeconds.WithLabelValues(result), took, exemplar)
	o.traceTransaction(part, began, err)
}

// attempted reports what follows an attempt to store a part. The methods stored and refused report the rest of it.
func (o *laneObserver) attempted(part *trade.Batch, next action, err error, failures int) {
	switch next {
	case actionDrop:
		o.metrics.fenced.Inc()
		o.log.Warn().Err(err).Msg("fenced: dropping the batch and reading the positions again")
	case actionSplit:
		o.metrics.splits.Inc()
	case actionRetry, actionShrink:
		class := trade.ClassOf(err)
		o.metrics.retries.WithLabelValues(class.String()).Inc()
		o.log.Warn().Err(err).Stringer("class", class).Int("attempt", failures+1).
			Msgf("cannot apply %s: trying again", describe(part))
	default:
	}
}

// refused reports a record that the store does not take.
func (o *laneObserver) refused(r *trade.Record, cause error) {
	o.metrics.refused.Inc()
	withRecord(o.sampled.Warn(), r).Err(cause).Msg("the store refuses a record")
}

// stored reports a part that is committed.
func (o *laneObserver) stored(part *trade.Batch, applied trade.Applied, polledAt time.Time) {
	o.metrics.applied(part, applied, o.now())
	o.traceStored(part, polledAt)
	for i := range part.Records {
		if r := &part.Records[i]; r.Fault != "" {
			withRecord(o.sampled.Warn(), r).Str("reason", r.Fault).Msg("dead letter")
		}
	}
}

// projected reports a step of the projector: the cursors passed these outcomes. Clients can see them now, except those
// that the request store refuses.
func (o *observer) projected(passed []trade.Decision, not *trade.NotProjected, began time.Time) {
	shown := without(passed, not.Refused)
	o.metrics.projected(shown, time.Since(began), o.now())
	o.traceProjected(shown, began)
	o.metrics.projectionRefused.Add(float64(len(passed) - len(shown)))
	for _, d := range without(passed, shown) {
		o.sampled.Error().Err(not.Err).Str("correlation_id", d.CorrelationID).Func(telemetry.Traced(d.TraceParent)).
			Stringer("request_id", d.ID).Str("trade_id", d.TradeID).Int32("partition", d.Partition).Int64("offset", d.Offset).
			Msg("the request store refuses an outcome: the request stays PENDING, the orphan reaper tries again")
	}
}

// closed reports requests of a partition that got an outcome from the orphan reaper, or had one before it looked.
func (o *observer) closed(outcomes []trade.Decision, partition int32) {
	for i := range outcomes {
		d := &outcomes[i]
		if d.Reason != trade.NotDelivered {
			continue // the log had the record after all, and the lane was faster
		}
		o.metrics.orphansClosed.Inc()
		o.metrics.outcomes.WithLabelValues(string(d.Status), string(d.Reason)).Inc()
		o.sampled.Warn().Str("correlation_id", d.CorrelationID).Func(telemetry.Traced(d.TraceParent)).
			Stringer("request_id", d.ID).Str("trade_id", d.TradeID).Int32("partition", partition).
			Time("accepted_at", d.AcceptedAt).Str("reason", string(d.Reason)).
			Msg("request closed: its trade never reached the log")
	}
}

// withRecord adds to a line which record it is about. A record that could not be read has no ids.
func withRecord(line *zerolog.Event, r *trade.Record) *zerolog.Event {
	line = line.Int32("partition", r.Partition).Int64("offset", r.Offset)
	if r.CorrelationID != "" {
		line = line.Str("correlation_id", r.CorrelationID)
	}
	line = line.Func(telemetry.Traced(r.TraceParent))
	if !r.ID.IsZero() {
		line = line.Stringer("request_id", r.ID)
	}
	if r.Trade.TradeID != "" {
		line = line.Str("trade_id", r.Trade.TradeID)
	}
	return line
}

// traceTransaction makes the span of an apply transaction. A batch has no trace of its own: the span belongs to the
// trace of the first traced record and links to all of them. traceStored links back.
func (o *laneObserver) traceTransaction(part *trade.Batch, began time.Time, err error) {
	if o.tracer == nil {
		return
	}
	var links []trace.Link
	for i := range part.Records {
		if parent := part.Records[i].TraceParent; telemetry.IsSampled(parent) && len(links) < maxLinks {
			links = append(links, trace.Link{SpanContext: telemetry.SpanContext(parent)})
		}
	}
	if len(links) == 0 {
		return
	}
	o.transaction = o.tracer.Record(links[0].SpanContext, spanApply, began, time.Now(), err,
		trace.WithLinks(links...), trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
			semconv.DBSystemNamePostgreSQL, semconv.MessagingBatchMessageCount(len(part.Records)),
			attribute.Int("tradestore.lane", o.lane)))
}

// traceStored makes the spans of the records of a part that is committed: from the poll to now, and the projection
// where clients see an outcome from its commit on.
func (o *laneObserver) traceStored(part *trade.Batch, polledAt time.Time) {
	if o.tracer == nil {
		return
	}
	now := time.Now()
	for i := range part.Records {
		r := &part.Records[i]
		if !telemetry.IsSampled(r.TraceParent) {
			continue
		}
		parent, request := telemetry.SpanContext(r.TraceParent), withRequest(r.ID, r.Trade.TradeID)
		o.tracer.Record(parent, spanProcess+o.topic, polledAt, now, nil, trace.WithSpanKind(trace.SpanKindConsumer),
			trace.WithLinks(trace.Link{SpanContext: o.transaction}), request, trace.WithAttributes(
				semconv.MessagingSystemKafka, semconv.MessagingOperationTypeProcess, semconv.MessagingOperationName("process"),
				semconv.MessagingDestinationName(o.topic),
				semconv.MessagingDestinationPartitionID(strconv.Itoa(int(r.Partition))),
				semconv.MessagingKafkaOffset(int(r.Offset))))
		if o.metrics.atCommit {
			o.tracer.Record(parent, spanProject, now, now, nil, request)
		}
	}
}

// traceProjected makes the spans of outcomes that clients can see now.
func (o *observer) traceProjected(outcomes []trade.Decision, began time.Time) {
	if o.tracer == nil {
		return
	}
	now := time.Now()
	for i := range outcomes {
		d := &outcomes[i]
		if telemetry.IsSampled(d.TraceParent) {
			parent := telemetry.SpanContext(d.TraceParent)
			o.tracer.Record(parent, spanProject, began, now, nil, withRequest(d.ID, d.TradeID), trace.WithAttributes(
				attribute.String("tradestore.status", string(d.Status)),
				attribute.String("tradestore.reason", string(d.Reason))))
		}
	}
}

func withRequest(id trade.RequestID, tradeID string) trace.SpanStartOption {
	return trace.WithAttributes(attribute.String("tradestore.request_id", id.String()),
		attribute.String("tradestore.trade_id", tradeID))
}
