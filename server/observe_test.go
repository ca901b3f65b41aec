package server

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/internal/telemetry"
	"tradestore/test/stack/otlp"
	"tradestore/trade"
)

const clientsParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// startTraced runs a server that traces to a collector. flush exports what is left; nothing is traced after it.
func startTraced(t *testing.T, change func(*Config, *Deps)) (a *api, sent *otlp.Receiver, flush func()) {
	t.Helper()
	sent = otlp.Start(t)
	tracer, err := telemetry.NewTracer("tradestore-server", zerolog.Nop())
	require.NoError(t, err)
	flush = func() { require.NoError(t, tracer.Close(context.Background())) }
	t.Cleanup(flush)
	return start(t, func(c *Config, d *Deps) {
		d.Tracer = tracer
		if change != nil {
			change(c, d)
		}
	}), sent, flush
}

func named(spans []otlp.Span, name string) []otlp.Span {
	return slices.DeleteFunc(slices.Clone(spans), func(s otlp.Span) bool { return s.Name != name })
}

func TestTheSpanOfAPostTravelsWithItsRecord(t *testing.T) {
	a, sent, flush := startTraced(t, nil)
	a.post(tradeJSON("T1", 1)).accepted(t)
	a.post(tradeJSON("T2", 1), "traceparent: "+clientsParent).accepted(t)
	records := a.records(2)
	flush()
	for _, r := range records {
		posts := named(sent.Trace(telemetry.TraceID(r.TraceParent)), spanPost)
		require.Len(t, posts, 1)
		assert.Equal(t, posts[0].ID, r.TraceParent[36:52], "the record names the span of its POST")
		assert.Equal(t, r.ID.String(), posts[0].Attributes["tradestore.request_id"])
		if r.Trade.TradeID == "T2" {
			assert.Equal(t, clientsParent[3:35], posts[0].TraceID)
			assert.Equal(t, clientsParent[36:52], posts[0].Parent)
		} else {
			assert.Empty(t, posts[0].Parent)
		}
	}
}

func TestUnsampledCallsLeaveNoSpanAndPassOnWhatTheyBrought(t *testing.T) {
	t.Setenv("OTEL_TRACES_SAMPLER_ARG", "0")
	a, sent, flush := startTraced(t, nil)
	unsampled := strings.TrimSuffix(clientsParent, "01") + "00"
	a.post(tradeJSON("T1", 1)).accepted(t)
	a.post(tradeJSON("T2", 1), "traceparent: "+unsampled).accepted(t)
	for _, r := range a.records(2) {
		assert.Equal(t, map[string]string{"T1": "", "T2": unsampled}[r.Trade.TradeID], r.TraceParent)
	}
	flush()
	require.Empty(t, sent.Spans())
	require.NotContains(t, a.log.String(), "trace_id")
}

func TestARefusalAndAFailureAreSpansToo(t *testing.T) {
	a, sent, flush := startTraced(t, nil)
	a.post("{}").problem(t, 400, trade.InvalidTrade)
	a.stores.onOpen = func(_ context.Context, batch []*trade.Request) []error {
		return slices.Repeat([]error{trade.ErrNotOpened}, len(batch))
	}
	a.post(tradeJSON("T1", 1)).noEffect(t, RequestStoreUnavailable)
	flush()
	posts := named(sent.Spans(), spanPost)
	require.Len(t, posts, 2)
	f := func(s otlp.Span, failed bool, status, code string) {
		t.Helper()
		assert.Equal(t, failed, s.Failed)
		assert.Equal(t, status, s.Attributes["http.response.status_code"])
		assert.Equal(t, code, s.Attributes["tradestore.code"])
	}
	f(posts[0], false, "400", string(trade.InvalidTrade))
	f(posts[1], true, "503", string(RequestStoreUnavailable))
	opens := named(sent.Trace(posts[1].TraceID), spanOpen)
	require.Len(t, opens, 1)
	require.True(t, opens[0].Failed)
}

func TestLinesAboutASampledCallNameItsTrace(t *testing.T) {
	a, _, _ := startTraced(t, nil)
	a.post(tradeJSON("T1", 1), "traceparent: "+clientsParent).accepted(t)
	require.Eventually(t, func() bool {
		return strings.Contains(a.log.String(), `"trace_id":"`+clientsParent[3:35]+`"`)
	}, giveUpAfter, time.Millisecond)
}

func TestLatenciesHaveTheTraceAsExemplar(t *testing.T) {
	a, _, _ := startTraced(t, nil)
	a.post(tradeJSON("T1", 1), "traceparent: "+clientsParent).accepted(t)
	page := a.send("GET", "/metrics", "", "Accept: application/openmetrics-text; version=1.0.0").body
	for _, family := range []string{"tradestore_accept_duration_seconds", "tradestore_accept_queue_wait_seconds",
		"tradestore_accept_stage_duration_seconds", "tradestore_http_request_duration_seconds"} {
		assert.Regexp(t, family+`_bucket\{[^}]*\} \d+ # \{trace_id="`+clientsParent[3:35]+`"\}`, page)
	}
}

func TestWithoutATracerACallAllocatesNothingForIt(t *testing.T) {
	c := &call{head: head{traceParent: clientsParent}, correlationID: "c"}
	o, batch := &observer{m: newMetrics()}, []*pendingPost{{}, {}}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		o.startSpan(c, spanPost, ofPost)
		o.dequeued(batch)
		o.keysRead(batch, c.start, nil)
		o.lookedUp(batch, c.start, nil)
		o.opened(batch, c.start, nil)
		o.produced(batch[0], c.start, nil)
		o.waited(c, c.start)
		o.endSpan(c, 202)
	}))
	require.Equal(t, clientsParent, c.traceParent)
}

// lockedBuffer is a log that can be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
