package telemetry

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"
	traces "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"

	"tradestore/test/stack/otlp"
)

const (
	sampledParent   = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	unsampledParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
)

func newTestTracer(t *testing.T) *Tracer {
	t.Helper()
	tracer, err := NewTracer("tradestore-test", zerolog.Nop())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, tracer.Close(context.Background())) })
	return tracer
}

func TestTracingIsOffUntilAnExporterOrAnEndpointIsNamed(t *testing.T) {
	f := func(on bool, pairs ...string) {
		t.Helper()
		t.Run(strings.Join(pairs, " "), func(t *testing.T) {
			for _, pair := range pairs {
				name, value, _ := strings.Cut(pair, "=")
				t.Setenv(name, value)
			}
			tracer, err := NewTracer("tradestore-test", zerolog.Nop())
			require.NoError(t, err)
			require.Equal(t, on, tracer != nil)
			require.NoError(t, tracer.Close(t.Context()))
		})
	}
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1"
	f(false)
	f(false, "OTEL_TRACES_SAMPLER=always_on")
	f(false, "OTEL_EXPORTER_OTLP_ENDPOINT=")
	f(false, "OTEL_TRACES_EXPORTER=none", endpoint)
	f(false, "OTEL_SDK_DISABLED=TRUE", endpoint)
	f(true, endpoint)
	f(true, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://127.0.0.1:1/v1/traces")
	f(true, endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc")
	f(true, "OTEL_TRACES_EXPORTER=console")
	f(true, "OTEL_TRACES_EXPORTER=otlp")
}

func TestAVariableThatCannotBeUsedIsNamedAndNotQuoted(t *testing.T) {
	f := func(name, value string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Setenv("OTEL_TRACES_EXPORTER", "otlp")
			t.Setenv(name, value)
			_, err := NewTracer("tradestore-test", zerolog.Nop())
			require.ErrorContains(t, err, name+": not ")
			require.NotContains(t, err.Error(), value)
		})
	}
	f("OTEL_SDK_DISABLED", "yes")
	f("OTEL_TRACES_EXPORTER", "jaeger")
	f("OTEL_TRACES_SAMPLER", "sometimes")
	f("OTEL_TRACES_SAMPLER_ARG", "1.01")
	f("OTEL_TRACES_SAMPLER_ARG", "-0.5")
	f("OTEL_TRACES_SAMPLER_ARG", "NaN")
	f("OTEL_RESOURCE_ATTRIBUTES", "production")
	f("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318")
	f("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://127.0.0.1")
	f("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
	f("OTEL_EXPORTER_OTLP_HEADERS", "authorization: secret")
	f("OTEL_EXPORTER_OTLP_TIMEOUT", "10s")
	f("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem")
	f("OTEL_BSP_MAX_QUEUE_SIZE", "-7")

	t.Setenv("OTEL_TRACES_SAMPLER", "x")
	t.Setenv("OTEL_BSP_EXPORT_TIMEOUT", "x")
	require.Len(t, strings.Split(CheckTracing().Error(), "\n"), 2, "all mistakes at once")
}

func TestSampling(t *testing.T) {
	f := func(sampler, share, parent string, want bool) {
		t.Helper()
		t.Run(sampler+" "+share+" "+parent, func(t *testing.T) {
			t.Setenv("OTEL_TRACES_EXPORTER", "otlp")
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp.Start(t).URL)
			t.Setenv("OTEL_TRACES_SAMPLER", sampler)
			t.Setenv("OTEL_TRACES_SAMPLER_ARG", share)
			span := newTestTracer(t).Start(SpanContext(parent), "test")
			require.Equal(t, want, span != nil)
			if span != nil {
				span.End()
				require.True(t, IsSampled(TraceParent(span.SpanContext())))
				require.Equal(t, parent != "", span.SpanContext().TraceID() == SpanContext(parent).TraceID())
			}
		})
	}
	f("", "", "", true)
	f("", "0", "", false)
	f("", "1", "", true)
	f("", "0", sampledParent, true)
	f("", "1", unsampledParent, false)
	f("parentbased_traceidratio", "0", sampledParent, true)
	f("parentbased_always_on", "0", "", true)
	f("parentbased_always_off", "", "", false)
	f("parentbased_always_off", "", sampledParent, true)
	f("traceidratio", "0", sampledParent, false)
	f("traceidratio", "1", unsampledParent, true)
	f("always_on", "", unsampledParent, true)
	f("always_off", "", sampledParent, false)
}

func TestTheEndExportsWhatIsLeftAndDoesNotWaitForLong(t *testing.T) {
	receiver := otlp.Start(t)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000") // ms
	tracer := newTestTracer(t)
	tracer.Start(trace.SpanContext{}, "last").End()
	require.NoError(t, tracer.Close(t.Context()))
	require.Len(t, receiver.Spans(), 1)
	require.Equal(t, "tradestore-test", receiver.Spans()[0].Service)

	hangs, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and never answers
	require.NoError(t, err)
	defer hangs.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+hangs.Addr().String())
	stuck, err := NewTracer("tradestore-test", zerolog.Nop())
	require.NoError(t, err)
	stuck.Start(trace.SpanContext{}, "last").End()
	limit, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorContains(t, stuck.Close(limit), "cannot export the last spans: context deadline exceeded")
}

// grpcReceiver receives spans over gRPC. Package otlp receives them over HTTP.
type grpcReceiver struct {
	traces.UnimplementedTraceServiceServer
	names chan string
}

func (r grpcReceiver) Export(
	_ context.Context, export *traces.ExportTraceServiceRequest,
) (*traces.ExportTraceServiceResponse, error) {
	r.names <- export.GetResourceSpans()[0].GetScopeSpans()[0].GetSpans()[0].GetName()
	return &traces.ExportTraceServiceResponse{}, nil
}

func TestSpansAreExportedOverGRPC(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server, receiver := grpc.NewServer(), grpcReceiver{names: make(chan string, 1)}
	traces.RegisterTraceServiceServer(server, receiver)
	go func() { _ = server.Serve(ln) }()
	defer server.Stop()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+ln.Addr().String())
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	tracer := newTestTracer(t)
	tracer.Start(trace.SpanContext{}, "over gRPC").End()
	require.NoError(t, tracer.Close(t.Context()))
	require.Equal(t, "over gRPC", <-receiver.names)
}

func TestTraceParentsAreReadAndWritten(t *testing.T) {
	t.Parallel()
	f := func(traceParent string, sampled bool, traceID string) {
		t.Helper()
		require.Equal(t, sampled, IsSampled(traceParent), traceParent)
		require.Equal(t, traceID, TraceID(traceParent), traceParent)
		of := SpanContext(traceParent)
		require.Equal(t, sampled, of.IsSampled(), traceParent)
		if of.IsValid() {
			require.True(t, of.IsRemote())
			require.Equal(t, traceParent[3:53], TraceParent(of)[3:53])
		}
	}
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	f("", false, "")
	f("00-", false, "")
	f(sampledParent, true, id)
	f(unsampledParent, false, "")
	f("01-"+id+"-00f067aa0ba902b7-0b-more", true, id)
	f("00-"+id+"-00f067aa0ba902b7-fe", false, "")
	require.Equal(t, sampledParent, TraceParent(SpanContext(sampledParent)))
}

func TestWithoutATracerNothingIsAllocated(t *testing.T) {
	var off *Tracer
	histogram := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "wait_seconds"})
	now := time.Now()
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if off.Start(trace.SpanContext{}, "test") != nil {
			t.Error("a span")
		}
		off.Record(trace.SpanContext{}, "test", now, now, nil)
		Observe(histogram, 1, "")
		Observe(histogram, 1, unsampledParent)
	}))
}

func TestExemplarsOfSampledRequestsAreServed(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	var f Families
	wait := f.Histogram("wait_seconds", "Wait.", Durations)
	require.NoError(t, f.Register(reg, "the test"))
	Observe(wait, .07, unsampledParent)
	scrape := func() string {
		request := httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody)
		request.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
		answer := httptest.NewRecorder()
		Handler(reg).ServeHTTP(answer, request)
		return answer.Body.String()
	}
	require.NotContains(t, scrape(), "trace_id")
	Observe(wait, .07, sampledParent)
	require.Contains(t, scrape(), `wait_seconds_bucket{le="0.1"} 2 # {trace_id="4bf92f3577b34da6a3ce929d0e0e4736"} 0.07`)
}

// BenchmarkUnsampled is what tracing costs a request that is not traced.
func BenchmarkUnsampled(b *testing.B) {
	b.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	b.Setenv("OTEL_TRACES_SAMPLER_ARG", "0")
	tracer, err := NewTracer("tradestore-bench", zerolog.Nop())
	require.NoError(b, err)
	for b.Loop() {
		tracer.Start(trace.SpanContext{}, "bench", trace.WithSpanKind(trace.SpanKindServer))
	}
}
