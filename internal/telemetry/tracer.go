package telemetry

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// Tracer makes the spans of a role. The nil Tracer makes none, at no cost: tracing is off. Its methods may be called
// concurrently and never wait for the exporter: when spans come faster than they are exported, they are dropped.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

// NewTracer sets up tracing from the standard OTEL_* variables and nothing else. It is nil, off, unless they name an
// exporter or an OTLP endpoint. service is the name of a role that OTEL_SERVICE_NAME does not name. Errors: those of
// CheckTracing. An exporter that can't be reached is none; what could not be exported is a warning, sampled.
func NewTracer(service string, log zerolog.Logger) (*Tracer, error) {
	if err := CheckTracing(); err != nil {
		return nil, err
	}
	exporterName := exporterChosen()
	if exporterName == "none" {
		return nil, nil //nolint:nilnil // a nil Tracer is a Tracer that is off
	}
	otel.SetLogger(logr.Discard()) // it would quote settings, secrets too, past our log
	exporter, err := newExporter(exporterName)
	if err != nil {
		return nil, fmt.Errorf("cannot make the exporter of traces: %w", err)
	}
	of, err := resource.New(context.Background(), resource.WithTelemetrySDK(), resource.WithAttributes(
		semconv.ServiceName(service), semconv.ServiceVersion(ReadBuild().Version)), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	sampler := newSampler()
	provider := sdk.NewTracerProvider(sdk.WithBatcher(reporting{exporter, Sampled(log)}), sdk.WithResource(of), sdk.WithSampler(sampler))
	log.Info().Str("exporter", exporterName).Str("sampler", sampler.Description()).Msg("tracing is on")
	return &Tracer{provider, provider.Tracer("tradestore/" + service)}, nil
}

// Close exports what is left, until ctx ends, and stops.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("cannot export the last spans: %w", err)
	}
	return nil
}

// Start begins a span below parent, or a trace without one; nil if the sampler leaves it out. It has to be ended.
func (t *Tracer) Start(parent trace.SpanContext, name string, opts ...trace.SpanStartOption) trace.Span {
	if t == nil {
		return nil
	}
	ctx := context.Background()
	if parent.IsValid() {
		ctx = trace.ContextWithSpanContext(ctx, parent)
	}
	_, span := t.tracer.Start(ctx, name, opts...)
	if !span.IsRecording() {
		return nil
	}
	return span
}

// Record makes a span of something that is over, below parent, which was sampled. err says that it failed; its text goes
// with the span. It returns what names the span, for links; not valid if there is none.
func (t *Tracer) Record(parent trace.SpanContext, name string, from, to time.Time, err error, opts ...trace.SpanStartOption) trace.SpanContext {
	if t == nil {
		return trace.SpanContext{}
	}
	span := t.Start(parent, name, append(opts, trace.WithTimestamp(from))...)
	if span == nil {
		return trace.SpanContext{}
	}
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
	span.End(trace.WithTimestamp(to))
	return span.SpanContext()
}

// reporting is an exporter whose failures are lines of the log. The spans of a failed export are lost.
type reporting struct {
	sdk.SpanExporter
	log zerolog.Logger // sampled
}

// ExportSpans implements sdk.SpanExporter.
func (r reporting) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	if err := r.SpanExporter.ExportSpans(ctx, spans); err != nil {
		r.log.Warn().Err(err).Int("spans", len(spans)).Msg("cannot export spans: they are lost")
	}
	return nil
}

func newExporter(name string) (sdk.SpanExporter, error) {
	switch {
	case name == "console":
		return stdouttrace.New(stdouttrace.WithWriter(os.Stdout))
	case strings.EqualFold(setting("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"), "grpc"):
		return otlptracegrpc.New(context.Background())
	}
	return otlptracehttp.New(context.Background())
}
