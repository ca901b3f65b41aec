package worker

import (
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"tradestore/internal/telemetry"
	"tradestore/trade"
)

// Names of the spans of the worker. All of them are made when what they are about is over, so none is left open by a batch
// that is dropped.
const (
	spanApply   = "apply transaction"
	spanProcess = "process " // and the topic
	spanProject = "project"
)

// mostLinks bounds what a span of a batch names: as many as an SDK keeps (OpenTelemetry specification, span limits).
const mostLinks = 128

// traceApply makes the span of one apply transaction. It belongs to the trace of the first record that is traced, and
// links to all of them: a batch has no trace of its own. traceDone links back.
func (l *lane) traceApply(part *trade.Batch, began time.Time, err error) {
	if l.deps.Tracer == nil {
		return
	}
	var links []trace.Link
	for i := range part.Records {
		if parent := part.Records[i].TraceParent; telemetry.IsSampled(parent) && len(links) < mostLinks {
			links = append(links, trace.Link{SpanContext: telemetry.SpanContext(parent)})
		}
	}
	if len(links) == 0 {
		return
	}
	l.transaction = l.deps.Tracer.Record(links[0].SpanContext, spanApply, began, time.Now(), err, trace.WithLinks(links...), trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(semconv.DBSystemNamePostgreSQL, semconv.MessagingBatchMessageCount(len(part.Records)), attribute.Int("tradestore.lane", l.number)))
}

// traceDone makes the spans of the records of a part that is committed: from the poll to now, and where clients see an
// outcome from its commit on, that it is projected.
func (l *lane) traceDone(part *trade.Batch) {
	if l.deps.Tracer == nil {
		return
	}
	now := time.Now()
	for i := range part.Records {
		r := &part.Records[i]
		if !telemetry.IsSampled(r.TraceParent) {
			continue
		}
		parent := telemetry.SpanContext(r.TraceParent)
		l.deps.Tracer.Record(parent, spanProcess+l.cfg.Kafka.Topic, l.polledAt, now, nil, trace.WithSpanKind(trace.SpanKindConsumer),
			trace.WithAttributes(semconv.MessagingSystemKafka, semconv.MessagingOperationTypeProcess, semconv.MessagingOperationName("process"),
				semconv.MessagingDestinationName(l.cfg.Kafka.Topic), semconv.MessagingDestinationPartitionID(strconv.Itoa(int(r.Partition))),
				semconv.MessagingKafkaOffset(int(r.Offset))), ofRequest(r.ID, r.Trade.TradeID), trace.WithLinks(trace.Link{SpanContext: l.transaction}))
		if l.deps.OutcomesAtCommit {
			l.deps.Tracer.Record(parent, spanProject, now, now, nil, ofRequest(r.ID, r.Trade.TradeID))
		}
	}
}

// traceSettled makes the spans of outcomes that clients can see now.
func (w *Worker) traceProjected(outcomes []trade.Decision, began time.Time) {
	if w.deps.Tracer == nil {
		return
	}
	now := time.Now()
	for i := range outcomes {
		o := &outcomes[i]
		if telemetry.IsSampled(o.TraceParent) {
			w.deps.Tracer.Record(telemetry.SpanContext(o.TraceParent), spanProject, began, now, nil, ofRequest(o.ID, o.TradeID),
				trace.WithAttributes(attribute.String("tradestore.status", string(o.Status)), attribute.String("tradestore.reason", string(o.Reason))))
		}
	}
}

func ofRequest(id trade.RequestID, tradeID string) trace.SpanStartOption {
	return trace.WithAttributes(attribute.String("tradestore.request_id", id.String()), attribute.String("tradestore.trade_id", tradeID))
}

// sampledOf returns the traceparent of the first record that is traced: the exemplar of what a batch does together.
func sampledOf(records []trade.Record) string {
	for i := range records {
		if telemetry.IsSampled(records[i].TraceParent) {
			return records[i].TraceParent
		}
	}
	return ""
}
