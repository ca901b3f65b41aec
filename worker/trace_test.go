package worker

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/internal/telemetry"
	"tradestore/test/stack/otlp"
	"tradestore/trade"
)

// parentOf is the traceparent of request i; every fourth one is sampled.
func parentOf(i int) string {
	flags := "00"
	if i%4 == 0 {
		flags = "01"
	}
	return fmt.Sprintf("00-%032x-%016x-%s", i+1, i+1, flags)
}

// traced runs a worker on one batch of 20 records and returns its spans by name. Every fourth record is sampled. The
// first transaction fails.
func traced(t *testing.T, atCommit bool) map[string][]otlp.Span {
	t.Helper()
	sent := otlp.Start(t)
	tracer, err := telemetry.NewTracer("tradestore-worker", zerolog.Nop())
	require.NoError(t, err)
	r := newFixture(t, 1)
	r.store.failing(func(call string, n int, after bool, _ *trade.Batch) error {
		if call == "Apply" && !after && n == 1 {
			return trade.Classed(trade.Unavailable, "injected")
		}
		return nil
	})
	requests := make([]trade.Request, 20)
	for i := range requests {
		requests[i] = r.request(fmt.Sprint("T", i), 1, "B")
		requests[i].TraceParent = parentOf(i)
	}
	r.send(requests...)
	w := r.start(func(_ *Config, d *Deps) { d.Tracer, d.OutcomesAtCommit = tracer, atCommit })
	r.applied(len(requests))
	w.drain()
	require.NoError(t, tracer.Close(context.Background()))
	spans := map[string][]otlp.Span{}
	for _, s := range sent.Spans() {
		spans[s.Name] = append(spans[s.Name], s)
	}
	return spans
}

func TestABatchLinksToItsSampledRequestsAndEachHasItsSpans(t *testing.T) {
	for _, atCommit := range []bool{true, false} {
		t.Run(fmt.Sprintf("at commit=%t", atCommit), func(t *testing.T) {
			spans := traced(t, atCommit)
			require.Len(t, spans, 3)

			applied := spans[spanApply]
			require.Len(t, applied, 2, "one for each try")
			assert.True(t, applied[0].Failed)
			assert.False(t, applied[1].Failed)
			for _, s := range applied {
				assert.Equal(t, "20", s.Attributes["messaging.batch.message_count"])
				assert.Equal(t, parentOf(0)[3:35], s.TraceID)
				require.Len(t, s.Links, 5)
				for i, link := range s.Links {
					parent := parentOf(4 * i)
					assert.Equal(t, otlp.Link{TraceID: parent[3:35], ID: parent[36:52]}, link)
				}
			}
			for _, name := range []string{spanProcess + topic, spanProject} {
				require.Len(t, spans[name], 5, name)
				for i, s := range spans[name] {
					parent := parentOf(4 * i)
					assert.Equal(t, parent[3:35], s.TraceID)
					assert.Equal(t, parent[36:52], s.Parent)
					assert.Equal(t, fmt.Sprint("T", 4*i), s.Attributes["tradestore.trade_id"])
					if name != spanProject {
						assert.Equal(t, []otlp.Link{{TraceID: applied[1].TraceID, ID: applied[1].ID}}, s.Links)
					}
				}
			}
		})
	}
}

func TestRecordsThatAreNotSampledCostNoAllocation(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	on, err := telemetry.NewTracer("tradestore-worker", zerolog.Nop())
	require.NoError(t, err)
	defer func() { _ = on.Close(context.Background()) }() // nothing to export
	unsampled := &trade.Batch{Records: make([]trade.Record, 1000)}
	outcomes := make([]trade.Decision, 1000)
	for i := range unsampled.Records {
		unsampled.Records[i].TraceParent, outcomes[i].TraceParent = parentOf(4*i+1), parentOf(4*i+1)
	}
	sampled := &trade.Batch{Records: []trade.Record{{Request: trade.Request{TraceParent: parentOf(0)}}}}
	f := func(tracer *telemetry.Tracer, b *trade.Batch) {
		t.Helper()
		o := &laneObserver{observer: &observer{tracer: tracer, metrics: &metrics{}}}
		require.Zero(t, testing.AllocsPerRun(10, func() {
			o.traceTransaction(b, time.Time{}, nil)
			o.traceStored(b, time.Time{})
			o.traceProjected(outcomes, time.Time{})
		}))
	}
	f(nil, sampled)
	f(on, unsampled)
}
