package telemetry

import (
	"encoding/hex"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"
)

// A traceparent is version-traceid-parentid-flags (W3C Trace Context, level 1): 00-, 32 digits, -, 16 digits, -, 2
// digits. HTTP headers, records and the journal carry it as this text. Callers have checked its form.
const (
	traceFrom, traceTo = 3, 35
	spanFrom, spanTo   = 36, 52
	flagsEnd           = 55
)

// IsSampled says whether a traceparent has the sampled flag. A request that is not traced costs this call and no more.
func IsSampled(traceParent string) bool {
	if len(traceParent) < flagsEnd {
		return false
	}
	switch traceParent[flagsEnd-1] {
	case '1', '3', '5', '7', '9', 'b', 'd', 'f':
		return true
	}
	return false
}

// TraceID returns the trace of a traceparent that is sampled, for log lines and exemplars; empty for any other.
func TraceID(traceParent string) string {
	if !IsSampled(traceParent) {
		return ""
	}
	return traceParent[traceFrom:traceTo]
}

// Traced adds the trace_id of a sampled request to a log line: line.Func(Traced(traceParent)).
func Traced(traceParent string) func(*zerolog.Event) {
	return func(line *zerolog.Event) {
		if id := TraceID(traceParent); id != "" {
			line.Str("trace_id", id)
		}
	}
}

// TraceParent returns the traceparent of a span's context.
func TraceParent(span trace.SpanContext) string {
	traceID, spanID := span.TraceID(), span.SpanID()
	b := make([]byte, 0, flagsEnd)
	b = append(b, "00-"...)
	b = hex.AppendEncode(b, traceID[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, spanID[:])
	b = append(b, '-')
	return string(hex.AppendEncode(b, []byte{byte(span.TraceFlags())}))
}

// SpanContext returns the context of a span in another process from its traceparent. It is the zero context, which is
// not valid, for an empty text.
func SpanContext(traceParent string) trace.SpanContext {
	var c trace.SpanContextConfig
	if len(traceParent) < flagsEnd {
		return trace.SpanContext{}
	}
	text := []byte(traceParent)
	_, badTrace := hex.Decode(c.TraceID[:], text[traceFrom:traceTo])
	_, badSpan := hex.Decode(c.SpanID[:], text[spanFrom:spanTo])
	if badTrace != nil || badSpan != nil {
		return trace.SpanContext{}
	}
	c.Remote = true
	if IsSampled(traceParent) {
		c.TraceFlags = trace.FlagsSampled
	}
	return trace.NewSpanContext(c)
}

// Observe adds a value to a histogram, with the trace of a sampled request as its exemplar.
func Observe(histogram prometheus.Observer, value float64, traceParent string) {
	if IsSampled(traceParent) {
		if with, ok := histogram.(prometheus.ExemplarObserver); ok {
			with.ObserveWithExemplar(value, prometheus.Labels{"trace_id": TraceID(traceParent)})
			return
		}
	}
	histogram.Observe(value)
}
