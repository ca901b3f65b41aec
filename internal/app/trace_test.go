package app

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/test/stack/otlp"
)

// What a trade passes, and below which span.
var journey = []struct{ name, kind, below, service string }{
	{"POST /api/v1/trades", "server", "", "tradestore-server"},
	{"wait in queue", "internal", "POST /api/v1/trades", "tradestore-server"},
	{"look up versions", "internal", "POST /api/v1/trades", "tradestore-server"},
	{"open as PENDING", "internal", "POST /api/v1/trades", "tradestore-server"},
	{"send trades-inbound", "producer", "POST /api/v1/trades", "tradestore-server"},
	{"apply transaction", "client", "POST /api/v1/trades", "tradestore-worker"},
	{"process trades-inbound", "consumer", "POST /api/v1/trades", "tradestore-worker"},
	{"project", "internal", "POST /api/v1/trades", "tradestore-worker"},
}

// One trade, one trace: from the HTTP call through the log and the apply transaction to the outcome that a client sees.
func requireOneTrace(t *testing.T, sent *otlp.Receiver, server, worker *running) {
	t.Helper()
	id := server.post(t, "T1", "1")
	server.ends(t, id, "SUCCESS", nil)
	var trace []otlp.Span
	server.await(t, "the whole trace", func() bool {
		all := sent.Spans()
		i := slices.IndexFunc(all, func(s otlp.Span) bool { return s.Attributes["tradestore.request_id"] == id })
		if i >= 0 {
			trace = sent.Trace(all[i].TraceID)
		}
		return len(trace) >= len(journey)
	})
	require.Len(t, trace, len(journey))
	root := trace[slices.IndexFunc(trace, func(s otlp.Span) bool { return s.Parent == "" })]
	slices.SortFunc(trace, func(a, b otlp.Span) int { return cmp.Compare(a.Start, b.Start) })
	for _, s := range trace { // for people: go test ./role -run OneTrace -v
		from, took := time.Duration(s.Start-root.Start), time.Duration(s.End-s.Start) //nolint:gosec // a moment apart
		t.Logf("%s  %-17s  %-22s  from %12v  for %12v", s.TraceID, s.Service, s.Name, from, took)
	}
	for _, want := range journey {
		i := slices.IndexFunc(trace, func(s otlp.Span) bool { return s.Name == want.name })
		require.GreaterOrEqual(t, i, 0, want.name)
		span := trace[i]
		assert.Equal(t, want.kind, span.Kind, want.name)
		assert.Equal(t, want.service, span.Service, want.name)
		assert.False(t, span.Failed, want.name)
		assert.LessOrEqual(t, root.Start, span.Start, want.name)
		assert.LessOrEqual(t, span.Start, span.End, want.name)
		if want.below == "" {
			assert.Equal(t, root, span)
		} else {
			assert.Equal(t, root.ID, span.Parent, want.name)
		}
	}
	keyed := http.Header{"Idempotency-Key": {"K1"}, "Prefer": {"wait=25"}}
	post(t, server.url+"/api/v1/trades", tradeJSON("T2", "1"), keyed)
	post(t, server.url+"/api/v1/trades:batch", "["+tradeJSON("T3", "1")+"]", http.Header{})
	for _, role := range []*running{server, worker} {
		require.NoError(t, role.drain())
	}
	requireDocumented(t, sent.Spans())
}

func post(t *testing.T, url, body string, header http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	require.NoError(t, err)
	req.Header = header
	header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
}

func TestOneTraceOfOneTrade(t *testing.T) {
	sent := otlp.Start(t)
	s := newDeployment(t)
	server := start(t, func(ctx context.Context, env Env) error { return RunServer(ctx, s.serverConfig(t), env) })
	worker := start(t, func(ctx context.Context, env Env) error { return RunWorker(ctx, s.workerConfig(t), env) })
	server.awaitReady(t)
	worker.awaitReady(t)
	requireOneTrace(t, sent, server, worker)
}

func TestOneTraceOfOneTradeWithRequestsOnDynamoDB(t *testing.T) {
	sent := otlp.Start(t)
	s := newDynamoStack(t)
	require.NoError(t, s.migrate(t))
	server, worker := s.server(t), s.worker(t)
	server.awaitReady(t)
	worker.awaitReady(t)
	requireOneTrace(t, sent, server, worker)
}

// spanRow is a row of the table of spans.
var spanRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (\\w+) \\| [^|]+ \\| ([^|]*) \\|$")

// requireDocumented compares spans with the table of docs/tracing.md: it has all of their names, kinds and attributes,
// and no other names.
func requireDocumented(t *testing.T, spans []otlp.Span) {
	t.Helper()
	page, err := os.ReadFile("../../docs/tracing.md")
	require.NoError(t, err)
	kind, attributes := map[string]string{}, map[string][]string{}
	for _, row := range spanRow.FindAllStringSubmatch(string(page), -1) {
		name := strings.ReplaceAll(row[1], "TOPIC", "trades-inbound")
		kind[name], attributes[name] = row[2], strings.Split(strings.ReplaceAll(row[3], "`", ""), ", ")
	}
	for name := range kind {
		named := func(s otlp.Span) bool { return s.Name == name }
		require.True(t, slices.ContainsFunc(spans, named), "docs/tracing.md has %s", name)
	}
	for _, span := range spans {
		require.Equal(t, kind[span.Name], span.Kind, "docs/tracing.md on %s", span.Name)
		require.Subset(t, attributes[span.Name], slices.Collect(maps.Keys(span.Attributes)),
			"docs/tracing.md on %s", span.Name)
	}
}

// An exporter that is not there costs the traces, never a trade, and says so once in a while.
func TestAnExporterThatIsDownHoldsUpNothing(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
	s := newDeployment(t)
	server := start(t, func(ctx context.Context, env Env) error { return RunServer(ctx, s.serverConfig(t), env) })
	server.awaitReady(t)
	server.post(t, "T1", "1")
	server.await(t, "a warning", server.says("cannot export spans: they are lost"))
	server.post(t, "T2", "1")
	require.NoError(t, server.drain())
	require.NotContains(t, server.log.String(), `"level":"error"`)
}

func TestAWrongTracingVariableIsAMistakeInTheSettings(t *testing.T) {
	s := deployment{"postgres://nobody@127.0.0.1:1/none", []string{"127.0.0.1:1"}}
	server, worker := s.serverConfig(t), s.workerConfig(t)
	t.Setenv("OTEL_TRACES_SAMPLER_ARG", "1 %")
	const want = "OTEL_TRACES_SAMPLER_ARG: not a share from 0 to 1, like 0.01"
	require.EqualError(t, server.Validate(), want)
	require.EqualError(t, worker.Validate(), want)
}
