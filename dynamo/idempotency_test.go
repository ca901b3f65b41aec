package dynamo

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/test/conformance"
	"tradestore/trade"
)

// takes opens one request under a key and returns what became of it.
func (l *fixture) takes(t *testing.T, r *trade.KeyedRequest) error {
	t.Helper()
	return l.takesWithin(t, within(t, time.Minute), r)
}

func (l *fixture) takesWithin(t *testing.T, ctx context.Context, r *trade.KeyedRequest) error {
	t.Helper()
	errs := l.OpenKeyed(ctx, []*trade.KeyedRequest{r})
	if errs == nil {
		return nil
	}
	require.Len(t, errs, 1)
	return errs[0]
}

func (l *fixture) keyState(t *testing.T, r *trade.KeyedRequest) (state trade.KeyedState, found bool) {
	t.Helper()
	states, err := l.GetKeyed(t.Context(), []trade.RequestID{r.ID, r.ID})
	require.NoError(t, err)
	state, found = states[r.ID]
	return state, found
}

// A key is free again when its item is past its end, whether the table has deleted it or not.
func TestAnExpiredKeyIsFree(t *testing.T) {
	l := newFixture(t)
	first := conformance.NewKeyedRequest("k", 0)
	require.NoError(t, l.takes(t, first))
	l.now = testNow.Add(30 * 24 * time.Hour)
	require.ErrorIs(t, l.takes(t, conformance.NewKeyedRequest("k", 0)), trade.ErrKeyTaken, "PENDING never expires")

	end := decided(first.Request, trade.Success, "")
	require.NoError(t, l.Project(t.Context(), []trade.Decision{end}))
	l.now = end.DecidedAt.Add(defaultLife - time.Second)
	require.ErrorIs(t, l.takes(t, conformance.NewKeyedRequest("k", 0)), trade.ErrKeyTaken)
	_, found := l.keyState(t, first)
	require.True(t, found)

	l.now = end.DecidedAt.Add(defaultLife)
	_, found = l.keyState(t, first)
	require.False(t, found)
	again := conformance.NewKeyedRequest("k", 0)
	require.NoError(t, l.takes(t, again))
	require.Equal(t, conformance.PendingState(again.Request), l.state(t, again.ID))
	require.NotContains(t, l.item(t, again.ID), attrExpiresAt)
}

// What a put without an answer has done is found out by the next one, also when the first comes late.
func TestAPutUnderAKeyIsRepeated(t *testing.T) {
	f := func(name string, faults []fault, check func(*testing.T, error), stored bool) {
		t.Run(name, func(t *testing.T) {
			l := newFixture(t)
			l.proxy.next(opPut, faults...)
			r := conformance.NewKeyedRequest("k", 0)
			check(t, l.takesWithin(t, l.until(t, opPut, 4), r))
			state, found := l.keyState(t, r)
			require.Equal(t, stored, found)
			if stored {
				require.Equal(t, trade.KeyedState{Status: trade.Pending, Hash: r.Hash}, state)
			}
		})
	}
	taken := func(t *testing.T, err error) { require.NoError(t, err) }
	notOpened := func(t *testing.T, err error) { require.ErrorIs(t, err, trade.ErrNotOpened) }
	unsure := func(t *testing.T, err error) {
		require.Error(t, err)
		require.NotErrorIs(t, err, trade.ErrNotOpened)
		require.NotErrorIs(t, err, trade.ErrKeyTaken)
	}
	f("throttled", times(2, throttle), taken, true)
	f("lost before and after", []fault{resetBefore, resetAfter, resetBefore}, taken, true)
	f("failed after", times(2, errorAfter), taken, true)
	f("half an answer", []fault{truncated}, taken, true)
	f("refused", []fault{refuse(http.StatusBadRequest, "AccessDeniedException")}, notOpened, false)
	f("unknown, then refused", []fault{resetAfter, refuse(http.StatusBadRequest, "AccessDeniedException")}, unsure, true)
	f("throttled until the deadline", times(4, throttle), notOpened, false)
	f("no answer until the deadline", times(4, resetAfter), unsure, true)
}

// A copy that arrives after the end of the request changes nothing.
func TestALateCopyUnderAKeyIsHarmless(t *testing.T) {
	l := newFixture(t)
	release, arrived := make(chan struct{}), make(chan struct{})
	l.proxy.next(opPut, late(release, arrived))
	r := conformance.NewKeyedRequest("k", 0)
	require.NoError(t, l.takes(t, r), "the second copy")
	end := decided(r.Request, trade.Success, "")
	require.NoError(t, l.Project(t.Context(), []trade.Decision{end}))
	close(release)
	<-arrived
	require.Equal(t, trade.Success, l.state(t, r.ID).Status)
}

func TestAnItemWithoutAHashMatchesNoPayload(t *testing.T) {
	l := newFixture(t)
	r := conformance.NewKeyedRequest("k", 0)
	require.Nil(t, l.Open(t.Context(), []*trade.Request{r.Request}))
	require.ErrorIs(t, l.takes(t, r), trade.ErrKeyTaken)
	state, found := l.keyState(t, r)
	require.True(t, found)
	require.Equal(t, trade.PayloadHash{}, state.Hash)
}

func TestKeysThatCanNotBeRead(t *testing.T) {
	l := newFixture(t)
	l.proxy.next(opBatchGet, refuse(http.StatusBadRequest, "AccessDeniedException"))
	_, err := l.GetKeyed(t.Context(), []trade.RequestID{trade.DeriveRequestID("", "k", 0)})
	require.Error(t, err)
}
