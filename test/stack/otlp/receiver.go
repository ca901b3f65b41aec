// Package otlp takes the traces that a process exports over OTLP/HTTP, as a collector of OpenTelemetry does, for tests
// and measurements.
package otlp

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"

	traces "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Span is what tests want to know of one. Ids are hexadecimal, as in a traceparent.
type Span struct {
	TraceID, ID, Parent string // Parent is empty for the first of a trace
	Name, Kind          string // Kind is server, client, producer, consumer or internal
	Service             string // of the process
	Attributes          map[string]string
	Links               []Link
	Start, End          uint64 // nanoseconds since 1970
	Failed              bool
}

// Link names a span of another request.
type Link struct{ TraceID, ID string }

// Receiver keeps the spans that it was sent.
type Receiver struct {
	URL string // for OTEL_EXPORTER_OTLP_ENDPOINT

	mu    sync.Mutex
	spans []Span
}

// Start runs a receiver until the end of the test, and sets the variables by which the roles of this process trace
// everything to it.
func Start(t testing.TB) *Receiver {
	t.Helper()
	r := &Receiver{}
	server := httptest.NewServer(Handler(func(spans []Span) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.spans = append(r.spans, spans...)
	}))
	t.Cleanup(server.Close)
	r.URL = server.URL
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", r.URL)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "10") // ms
	return r
}

// Spans returns what has arrived, in this order.
func (r *Receiver) Spans() []Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.spans)
}

// Trace returns what has arrived of one trace.
func (r *Receiver) Trace(id string) []Span {
	return slices.DeleteFunc(r.Spans(), func(s Span) bool { return s.TraceID != id })
}

// Handler answers exports and hands their spans to take, which may be called concurrently.
func Handler(take func([]Span)) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var export traces.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &export)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		take(read(&export))
		w.Header().Set("Content-Type", "application/x-protobuf") // of an empty message: all is taken
	})
	return mux
}

func read(export *traces.ExportTraceServiceRequest) (all []Span) {
	for _, of := range export.GetResourceSpans() {
		service := attributes(of.GetResource().GetAttributes())["service.name"]
		for _, scope := range of.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				span := Span{
					TraceID: hex.EncodeToString(s.GetTraceId()), ID: hex.EncodeToString(s.GetSpanId()),
					Parent: hex.EncodeToString(s.GetParentSpanId()),
					Name:   s.GetName(), Kind: kinds[s.GetKind()], Service: service, Attributes: attributes(s.GetAttributes()),
					Start: s.GetStartTimeUnixNano(), End: s.GetEndTimeUnixNano(),
					Failed: s.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR,
				}
				for _, l := range s.GetLinks() {
					span.Links = append(span.Links, Link{hex.EncodeToString(l.GetTraceId()), hex.EncodeToString(l.GetSpanId())})
				}
				all = append(all, span)
			}
		}
	}
	return all
}

var kinds = map[tracepb.Span_SpanKind]string{
	tracepb.Span_SPAN_KIND_INTERNAL: "internal", tracepb.Span_SPAN_KIND_SERVER: "server",
	tracepb.Span_SPAN_KIND_CLIENT:   "client",
	tracepb.Span_SPAN_KIND_PRODUCER: "producer", tracepb.Span_SPAN_KIND_CONSUMER: "consumer",
}

func attributes(pairs []*common.KeyValue) map[string]string {
	of := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		if v, ok := pair.GetValue().GetValue().(*common.AnyValue_IntValue); ok {
			of[pair.GetKey()] = strconv.FormatInt(v.IntValue, 10)
		} else {
			of[pair.GetKey()] = pair.GetValue().GetStringValue()
		}
	}
	return of
}
