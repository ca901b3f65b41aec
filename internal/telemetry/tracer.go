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
// concurrently and never wait for the exporter: spans that come faster than they are exported are dropped.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

// NewTracer sets up tracing from the standard OTEL_* variables and nothing else. The result is nil (tracing is off)
// unless they name an exporter or an OTLP endpoint. service is the name of the role, if OTEL_SERVICE_NAME is not set.
// Errors: those of CheckTracing. An exporter that can't be reached is not an error: failed exports are logged,
// sampled.
func NewTracer(service string, log zerolog.Logger) (*Tracer, error) {
	if err := CheckTracing(); err != nil {
		return nil, err
	}
	exporterName := exporterChosen()
	if exporterName == "none" {
		return nil, nil //nolint:nilnil // a nil Tracer makes no spans
	}
	otel.SetLogger(logr.Discard()) // it would log settings, also secrets, to stderr
	exporter, err := newExporter(exporterName)
	if err != nil {
		return nil, fmt.Errorf("cannot make the exporter of traces: %w", err)
	}
	attributes, err := resource.New(context.Background(), resource.WithTelemetrySDK(), resource.WithAttributes(
		semconv.ServiceName(service), semconv.ServiceVersion(ReadBuild().Version)), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	sampler := newSampler()
	provider := sdk.NewTracerProvider(sdk.WithBatcher(loggingExporter{exporter, Sampled(log)}),
		sdk.WithResource(attributes), sdk.WithSampler(sampler))
	log.Info().Str("exporter", exporterName).Str("sampler", sampler.Description()).Msg("tracing is on")
	return &Tracer{provider, provider.Tracer("tradestore/" + service)}, nil
}

// Close exports the remaining spans, until ctx ends, and stops.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("cannot export the last spans: %w", err)
	}
	return nil
}

// Start begins a span below parent, or a new trace without a parent. It is nil if the sampler leaves it out. The caller
// must end it.
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

// Record makes a span of something that is over, below parent, which was sampled. With err the span has failed, and
// has the text of err. It returns the span's context, for links; not valid if there is no span.
func (t *Tracer) Record(
	parent trace.SpanContext, name string, from, to time.Time, err error, opts ...trace.SpanStartOption,
) trace.SpanContext {
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

// loggingExporter logs failed exports. Their spans are lost.
type loggingExporter struct {
	sdk.SpanExporter
	log zerolog.Logger // sampled
}

// ExportSpans implements sdk.SpanExporter.
func (e loggingExporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	if err := e.SpanExporter.ExportSpans(ctx, spans); err != nil {
		e.log.Warn().Err(err).Int("spans", len(spans)).Msg("cannot export spans: they are lost")
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
