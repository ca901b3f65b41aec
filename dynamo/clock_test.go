package dynamo

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/test/conformance"
	"tradestore/trade"
)

// A process whose clock is a month ahead takes no item for expired and gives no key away (rule T11).
func TestAClockAheadExpiresNothing(t *testing.T) {
	t.Parallel()
	l := newFixture(t)
	r := conformance.NewKeyedRequest("k", 0)
	require.Nil(t, l.OpenKeyed(t.Context(), []*trade.KeyedRequest{r}))
	end := decided(r.Request, trade.Success, "")
	end.ID, end.AcceptedAt, end.DecidedAt = r.ID, r.AcceptedAt, r.AcceptedAt
	require.NoError(t, l.Project(t.Context(), []trade.Decision{end}))

	l.proxy.setDate(end.DecidedAt.Add(time.Minute))
	require.NoError(t, l.Ping(t.Context()))
	l.now = end.DecidedAt.Add(30 * 24 * time.Hour)
	state, err := l.Get(t.Context(), r.ID)
	require.NoError(t, err)
	require.Equal(t, trade.Success, state.Status)
	again := conformance.NewKeyedRequest("k", 0)
	require.ErrorIs(t, l.OpenKeyed(t.Context(), []*trade.KeyedRequest{again})[0], trade.ErrKeyTaken)

	l.proxy.setDate(l.now) // both clocks say so
	require.NoError(t, l.Ping(t.Context()))
	_, err = l.Get(t.Context(), r.ID)
	require.ErrorIs(t, err, trade.ErrNotFound)
	require.Nil(t, l.OpenKeyed(t.Context(), []*trade.KeyedRequest{again}))
}

// An outcome that a worker decided by a clock a month behind lives as long as if it were decided when it was accepted.
func TestAClockBehindShortensNoLife(t *testing.T) {
	t.Parallel()
	l := newFixture(t)
	batch := newRequests(1)
	require.Nil(t, l.Open(t.Context(), batch))
	end := decided(batch[0], trade.Success, "")
	end.AcceptedAt, end.DecidedAt = batch[0].AcceptedAt, testNow.Add(-30*24*time.Hour)
	require.NoError(t, l.Project(t.Context(), []trade.Decision{end}))
	l.now = testNow.Add(defaultLife - time.Minute)
	_, err := l.Get(t.Context(), batch[0].ID)
	require.NoError(t, err)
}

func TestTheClockOfDynamoDB(t *testing.T) {
	t.Parallel()
	l := newFixture(t)
	_, err := l.Clock(t.Context())
	require.ErrorIs(t, err, errNoDate)
	l.proxy.setDate(testNow)
	now, err := l.Clock(t.Context())
	require.NoError(t, err)
	require.Equal(t, testNow.Add(time.Second/2), now)
}
