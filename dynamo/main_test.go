package dynamo

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"tradestore/test/conformance"
	"tradestore/test/stack"
	"tradestore/trade"
)

func TestMain(m *testing.M) {
	// The AWS settings of the machine must not affect a test.
	for _, name := range []string{
		"AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_ENDPOINT_URL", "AWS_MAX_ATTEMPTS",
	} {
		_ = os.Unsetenv(name)
	}
	_ = os.Setenv("AWS_CONFIG_FILE", os.DevNull)
	_ = os.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	stack.Main(m)
}

// testNow is the current time in tests. Accepted and decided times derive from it.
var testNow = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

var tables atomic.Int64

// fixture is a request store on a table of its own, behind a proxy that injects faults.
type fixture struct {
	*RequestStore
	proxy *proxy
	now   time.Time
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	return newFixtureOn(t, stack.DynamoDB(t), zerolog.Nop())
}

func newFixtureOn(t testing.TB, endpoint string, log zerolog.Logger) *fixture {
	t.Helper()
	l := &fixture{proxy: newProxy(t, endpoint), now: testNow}
	table := fmt.Sprintf("requests-%d-%d", os.Getpid(), tables.Add(1))
	var err error
	l.RequestStore, err = Open(t.Context(), Config{
		Table: table, Endpoint: l.proxy.url, CallLimit: 5 * time.Second, Now: func() time.Time { return l.now },
	}, prometheus.NewRegistry(), log)
	require.NoError(t, err)
	t.Cleanup(l.Close)
	require.NoError(t, l.CreateTable(t.Context()))
	return l
}

// newRequests makes n requests, accepted one microsecond after another.
func newRequests(n int) []*trade.Request {
	batch := make([]*trade.Request, n)
	for i := range batch {
		accepted := testNow.Add(time.Duration(i) * time.Microsecond)
		batch[i] = &trade.Request{
			ID: trade.NewRequestID(accepted), AcceptedAt: accepted, BusinessDate: trade.DateOf(accepted),
			Partition: int32(i % 12), CorrelationID: fmt.Sprintf("call-%d", i),
			Trade: trade.Trade{TradeID: fmt.Sprintf("T-%d", i), Version: int32(i + 1)},
		}
	}
	return batch
}

// decided returns the outcome of a request, a second after its acceptance.
func decided(r *trade.Request, status trade.Status, reason trade.Code) trade.Decision {
	o := trade.Decision{Generation: 1, Partition: r.Partition, CorrelationID: r.CorrelationID}
	o.RequestState = conformance.PendingState(r)
	o.Status, o.Reason, o.DecidedAt = status, reason, r.AcceptedAt.Add(time.Second)
	if status == trade.Failed {
		o.Detail = "why it failed"
	}
	return o
}

func succeeded(batch []*trade.Request) []trade.Decision {
	outcomes := make([]trade.Decision, len(batch))
	for i, r := range batch {
		outcomes[i] = decided(r, trade.Success, "")
	}
	return outcomes
}

// opened stores requests, without trouble.
func (l *fixture) opened(t testing.TB, n int) []*trade.Request {
	t.Helper()
	batch := newRequests(n)
	require.Nil(t, l.Open(t.Context(), batch))
	return batch
}

func (l *fixture) state(t testing.TB, id trade.RequestID) trade.RequestState {
	t.Helper()
	s, err := l.Get(t.Context(), id)
	require.NoError(t, err)
	return s
}

// item returns what the table holds of a request.
func (l *fixture) item(t testing.TB, id trade.RequestID) attributes {
	t.Helper()
	item, err := l.get(t.Context(), id)
	require.NoError(t, err)
	return item
}

func (l *fixture) absent(t testing.TB, id trade.RequestID) {
	t.Helper()
	_, err := l.Get(t.Context(), id)
	require.ErrorIs(t, err, trade.ErrNotFound)
}

// found returns how many conditions were not met, by what was found.
func (l *fixture) foundCount(kind string) int {
	return int(testutil.ToFloat64(l.metrics.unmet[kind]))
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// until is a context whose deadline has come once n calls of an operation have arrived, so that the time runs out in
// the pause after the n-th call and never during one.
type until struct {
	context.Context
	calls func() int
	n     int
}

func (l *fixture) until(t testing.TB, op string, n int) context.Context {
	t.Helper()
	return until{Context: within(t, time.Minute), calls: func() int { return l.proxy.count(op) }, n: l.proxy.count(op) + n}
}

func (u until) Deadline() (time.Time, bool) {
	if u.calls() >= u.n {
		return time.Now(), true
	}
	return u.Context.Deadline()
}
