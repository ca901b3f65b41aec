package dynamo

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"tradestore/internal/checks"
	"tradestore/test/conformance"
	"tradestore/trade"
)

func TestOpenStoresEveryRequest(t *testing.T) {
	l := newFixture(t)
	batch := l.opened(t, 512)
	require.Equal(t, 21, l.proxy.count(opBatchWrite), "25 to a call")
	for _, i := range []int{0, 24, 25, 511} {
		require.Equal(t, conformance.PendingState(batch[i]), l.state(t, batch[i].ID))
	}
	require.Nil(t, l.Open(t.Context(), nil))

	full := newRequests(1)[0]
	full.TraceParent, full.ReplayOf = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", batch[0].ID
	require.Nil(t, l.Open(t.Context(), []*trade.Request{full}))
	item := l.item(t, full.ID)
	require.Equal(t, text(full.TraceParent), item[attrTraceParent])
	require.Equal(t, text(batch[0].ID.String()), item[attrReplayOf])
	require.Equal(t, text("2026-03-04T12:00:00.000000Z"), item[attrAcceptedAt])
	require.NotContains(t, item, attrExpiresAt, "PENDING never expires")
}

// What one fault makes of the requests of one call: whether an item may be there, and whether the server may say that
// none is.
func TestOpenWhenTheCallFails(t *testing.T) {
	l := newFixture(t)
	f := func(name string, wrong fault, wantStored, wantCertain bool) {
		t.Helper()
		before := l.proxy.count(opBatchWrite)
		l.proxy.next(opBatchWrite, wrong)
		batch := newRequests(3)
		errs := l.Open(t.Context(), batch)
		require.Len(t, errs, 3, name)
		require.Equal(t, before+1, l.proxy.count(opBatchWrite), "%s: sent once", name)
		for i, err := range errs {
			require.Error(t, err, name)
			require.Equal(t, wantCertain, errors.Is(err, trade.ErrNotOpened), "%s: %v", name, err)
			item := l.item(t, batch[i].ID)
			require.Equal(t, wantStored, item != nil, name)
		}
	}
	f("reset before", resetBefore, false, false)
	f("reset after", resetAfter, true, false)
	f("500 after", errorAfter, true, false)
	f("500 before", refuse(http.StatusInternalServerError, "InternalServerError"), false, false)
	f("503", refuse(http.StatusServiceUnavailable, "ServiceUnavailable"), false, false)
	f("a throttle that is no 400", refuse(http.StatusServiceUnavailable, "ThrottlingException"), false, false)
	f("half an answer", truncated, true, false)
	f("a redirect", func(c *passing) {
		c.answer(http.StatusTemporaryRedirect, http.Header{"Location": {c.r.URL.String()}}, nil)
	}, false, false)
	f("a code of another time", refuse(http.StatusBadRequest, "SomethingNewException"), false, false)
	f("no rights", refuse(http.StatusBadRequest, "AccessDeniedException"), false, true)
	f("not valid", refuse(http.StatusBadRequest, "ValidationException"), false, true)
	f("no table", refuse(http.StatusBadRequest, "ResourceNotFoundException"), false, true)
}

// The environment may ask the AWS client to repeat. It must not (rule C3).
func TestOpenIsNotRepeatedByTheClient(t *testing.T) {
	t.Setenv("AWS_MAX_ATTEMPTS", "5")
	t.Setenv("AWS_RETRY_MODE", "adaptive")
	l := newFixture(t)
	l.proxy.next(opBatchWrite, errorAfter)
	require.Len(t, l.Open(t.Context(), newRequests(1)), 1)
	require.Equal(t, 1, l.proxy.count(opBatchWrite))
}

// The rule C3, as it is broken by a repeat: the first copy arrives when the request has long ended.
func TestALateCopyUndoesNothing(t *testing.T) {
	l := newFixture(t)
	release, arrived := make(chan struct{}), make(chan struct{})
	l.proxy.next(opBatchWrite, late(release, arrived))
	batch := newRequests(2)
	errs := l.Open(within(t, 300*time.Millisecond), batch)
	for _, err := range errs {
		require.Error(t, err)
		require.NotErrorIs(t, err, trade.ErrNotOpened, "its items may still appear")
	}
	require.NoError(t, l.Project(t.Context(), succeeded(batch)))
	require.Equal(t, 2, l.foundCount(foundMissing))
	l.absent(t, batch[0].ID)

	close(release)
	<-arrived
	require.Equal(t, trade.Pending, l.state(t, batch[0].ID).Status, "an orphan, which nobody was told of")
	require.Equal(t, 1, l.proxy.count(opBatchWrite))
}

func TestThrottledCallsAreRepeated(t *testing.T) {
	l := newFixture(t)
	l.proxy.next(opBatchWrite, throttle, refuse(http.StatusBadRequest, "ThrottlingException"),
		refuse(http.StatusBadRequest, "RequestLimitExceeded"))
	batch := l.opened(t, 7)
	require.Equal(t, trade.Pending, l.state(t, batch[6].ID).Status)
	require.Equal(t, 4, l.proxy.count(opBatchWrite))
	require.EqualValues(t, 21, testutil.ToFloat64(l.metrics.throttled[opBatchWrite]))
	require.EqualValues(t, 3, testutil.ToFloat64(l.metrics.calls.WithLabelValues(opBatchWrite, string(throttled))))
	require.EqualValues(t, 1, testutil.ToFloat64(l.metrics.calls.WithLabelValues(opBatchWrite, string(done))))
}

// leaveOut stores all but the last n items of a call and hands those back as unprocessed.
func leaveOut(t testing.TB, n int) fault {
	return func(c *passing) {
		var in struct{ RequestItems map[string][]json.RawMessage }
		require.NoError(t, json.Unmarshal(c.body, &in))
		for table, writes := range in.RequestItems {
			keep := max(len(writes)-n, 0)
			rest := writes[keep:]
			if keep > 0 {
				in.RequestItems[table] = writes[:keep]
				var err error
				c.body, err = json.Marshal(in)
				require.NoError(t, err)
				c.forward()
			}
			out, err := json.Marshal(map[string]any{"UnprocessedItems": map[string]any{table: rest}})
			require.NoError(t, err)
			c.answer(http.StatusOK, jsonHeader, out)
		}
	}
}

func TestUnprocessedItemsAreSentAgain(t *testing.T) {
	l := newFixture(t)
	l.proxy.next(opBatchWrite, leaveOut(t, 25), leaveOut(t, 10), leaveOut(t, 1))
	batch := l.opened(t, 25)
	for _, r := range batch {
		require.Equal(t, trade.Pending, l.state(t, r.ID).Status)
	}
	require.EqualValues(t, 36, testutil.ToFloat64(l.metrics.unprocessed))
	require.Equal(t, 4, l.proxy.count(opBatchWrite))
}

// Until the deadline, that is. Those that were taken are not answered for the others.
func TestUnprocessedAtTheDeadline(t *testing.T) {
	l := newFixture(t)
	l.proxy.next(opBatchWrite, times(3, leaveOut(t, 2))...)
	batch := newRequests(5)
	errs := l.Open(l.until(t, opBatchWrite, 3), batch)
	require.Len(t, errs, 5)
	for i, r := range batch[:3] {
		require.NoError(t, errs[i])
		require.Equal(t, trade.Pending, l.state(t, r.ID).Status)
	}
	for i, r := range batch[3:] {
		require.ErrorIs(t, errs[3+i], trade.ErrNotOpened)
		l.absent(t, r.ID)
	}
}

// A part that was left out and then got no answer is unknown; the part that was taken is not.
func TestUnknownAfterUnprocessed(t *testing.T) {
	l := newFixture(t)
	l.proxy.next(opBatchWrite, leaveOut(t, 2), resetAfter)
	batch := newRequests(5)
	errs := l.Open(t.Context(), batch)
	require.Len(t, errs, 5)
	require.NoError(t, errs[2])
	require.Error(t, errs[3])
	require.NotErrorIs(t, errs[4], trade.ErrNotOpened)
}

// One call that fails says nothing about the others.
func TestOpenAnswersInOrder(t *testing.T) {
	l := newFixture(t)
	l.cfg.Calls = 1 // so that the second call is the one that fails
	l.proxy.next(opBatchWrite, (*passing).pass, resetBefore)
	errs := l.Open(t.Context(), newRequests(60))
	require.Len(t, errs, 60)
	for i, err := range errs {
		require.Equal(t, i >= 25 && i < 50, err != nil, "request %d", i)
	}
}

func TestOpenWithNobodyThere(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ln.Close()
	l, err := open(t, Config{Table: "requests", Endpoint: "http://" + ln.Addr().String()})
	require.NoError(t, err, "a table that is down delays no start")
	for _, err := range l.Open(t.Context(), newRequests(30)) {
		require.ErrorIs(t, err, trade.ErrNotOpened, "nothing was sent")
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range l.Open(over, newRequests(2)) {
		require.ErrorIs(t, err, trade.ErrNotOpened)
	}
	_, err = l.Get(within(t, 100*time.Millisecond), newRequests(1)[0].ID)
	require.Error(t, err)
	require.NotErrorIs(t, err, trade.ErrNotFound, "unknown is not absent")
	require.Error(t, l.Ping(within(t, 100*time.Millisecond)))
	require.Equal(t, trade.Unavailable, trade.ClassOf(checks.Err(l.Checks(within(t, 100*time.Millisecond)))))
	require.Error(t, l.Project(within(t, 100*time.Millisecond), succeeded(newRequests(1))))
	_, err = l.Pending(within(t, 100*time.Millisecond), everyPartition, testNow, 1)
	require.Error(t, err)
}

// An idle connection that DynamoDB has closed is no reason to answer "unknown" to a batch of clients.
func TestAClosedIdleConnection(t *testing.T) {
	l := newFixture(t)
	l.proxy.next(opBatchWrite, func(c *passing) {
		c.w.Header().Set("Connection", "close")
		c.pass()
	})
	l.opened(t, 1)
	l.opened(t, 1)
}
