package conformance

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

// keyedStore is a request store with idempotency keys, as the server sees it.
type keyedStore interface {
	requestStore
	OpenKeyed(ctx context.Context, batch []*trade.KeyedRequest) []error
	GetKeyed(ctx context.Context, ids []trade.RequestID) (map[trade.RequestID]trade.KeyedState, error)
}

// KeyedSubject is an empty request store under test.
type KeyedSubject struct {
	Store keyedStore
	// Decide gives requests their outcomes, as in RequestStoreSubject.
	Decide func(ctx context.Context, ends []End) error
	// Hurt makes the next request of OpenKeyed or GetKeyed fail, once. A repeat works again.
	Hurt func(t *testing.T, method string, when When)
}

// KeyedRequestStore runs the contract of a request store with idempotency keys.
func KeyedRequestStore(t *testing.T, open func(t *testing.T) KeyedSubject) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s KeyedSubject)
	}{
		{"a key from free to taken", keyIsTakenOnce},
		{"a key is taken on another day as well", keyIsTakenAcrossDays},
		{"a key shows the end of its request", keyShowsTheEnd},
		{"several of a batch want one key", oneOfABatchWins},
		{"several calls want one key", oneOfSeveralCallsWins},
		{"a reading of keys that failed", brokenGetKeyed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, open(t))
		})
	}
	for _, when := range moments {
		t.Run("open under a key "+when.String(), func(t *testing.T) { brokenOpenKeyed(t, open(t), when) })
	}
}

// NewKeyedRequest makes a request under a key, as the server does after its checks.
func NewKeyedRequest(key string, attempt int) *trade.KeyedRequest {
	r := NewRequest("T-"+key, 1, 0)
	r.ID = trade.DeriveRequestID("", trade.IdempotencyKey(key), attempt)
	return &trade.KeyedRequest{Request: r, Hash: trade.HashPayload(&r.Trade), Nonce: trade.NewNonce()}
}

func keyedRequests(n int) []*trade.KeyedRequest {
	batch := make([]*trade.KeyedRequest, n)
	for i := range batch {
		batch[i] = NewKeyedRequest(fmt.Sprint("key-", i), 0)
	}
	return batch
}

// sameKey returns another request under the key of r, with another payload.
func sameKey(r *trade.KeyedRequest) *trade.KeyedRequest {
	again := NewRequest(r.Trade.TradeID, 2, 0)
	again.ID = r.ID
	return &trade.KeyedRequest{Request: again, Hash: trade.HashPayload(&again.Trade), Nonce: trade.NewNonce()}
}

func (s KeyedSubject) keyed(t *testing.T, batch ...*trade.KeyedRequest) map[trade.RequestID]trade.KeyedState {
	t.Helper()
	ids := make([]trade.RequestID, len(batch))
	for i, r := range batch {
		ids[i] = r.ID
	}
	states, err := s.Store.GetKeyed(t.Context(), ids)
	require.NoError(t, err)
	return states
}

func (s KeyedSubject) get(t *testing.T, r *trade.KeyedRequest) trade.RequestState {
	t.Helper()
	return get(t, RequestStoreSubject{Store: s.Store}, r.Request)
}

func pendingKey(r *trade.KeyedRequest) trade.KeyedState {
	return trade.KeyedState{Status: trade.Pending, Hash: r.Hash}
}

// taken requires ErrKeyTaken for the given requests of the batch, and no error for the others.
func taken(t *testing.T, errs []error, n int, which ...int) {
	t.Helper()
	require.Len(t, errs, n)
	for _, i := range which {
		require.ErrorIs(t, errs[i], trade.ErrKeyTaken)
		require.NotErrorIs(t, errs[i], trade.ErrNotOpened)
		errs[i] = nil
	}
	require.Equal(t, make([]error, n), errs)
}

func keyIsTakenOnce(t *testing.T, s KeyedSubject) {
	require.Nil(t, s.Store.OpenKeyed(t.Context(), nil))
	require.Empty(t, s.keyed(t))
	batch := keyedRequests(120)
	require.Empty(t, s.keyed(t, batch...))
	require.Nil(t, s.Store.OpenKeyed(t.Context(), batch))
	states := s.keyed(t, batch...)
	require.Len(t, states, len(batch))
	for _, i := range []int{0, 1, 24, 25, 99, 100, 119} {
		require.Equal(t, pendingKey(batch[i]), states[batch[i].ID])
		require.Equal(t, PendingState(batch[i].Request), s.get(t, batch[i]))
	}
	free := NewKeyedRequest("key-1", 1)
	taken(t, s.Store.OpenKeyed(t.Context(), []*trade.KeyedRequest{sameKey(batch[0]), free, sameKey(batch[2])}), 3, 0, 2)
	require.Equal(t, PendingState(batch[0].Request), s.get(t, batch[0]), "the first one stays")
	require.Equal(t, pendingKey(batch[0]), s.keyed(t, batch[0], free)[batch[0].ID])
	require.Equal(t, PendingState(free.Request), s.get(t, free))

	require.Nil(t, s.Store.Open(t.Context(), []*trade.Request{NewRequest("T", 1, 0)}), "keyless requests are not affected")
}

func keyIsTakenAcrossDays(t *testing.T, s KeyedSubject) {
	first := NewKeyedRequest("k", 0)
	require.Nil(t, s.Store.OpenKeyed(t.Context(), []*trade.KeyedRequest{first}))
	later := sameKey(first)
	later.AcceptedAt = later.AcceptedAt.AddDate(0, 0, 1)
	taken(t, s.Store.OpenKeyed(t.Context(), []*trade.KeyedRequest{later}), 1, 0)
	require.Equal(t, PendingState(first.Request), s.get(t, first))
}

func keyShowsTheEnd(t *testing.T, s KeyedSubject) {
	batch := keyedRequests(4)
	require.Nil(t, s.Store.OpenKeyed(t.Context(), batch))
	ends := []End{
		{batch[0].Request, trade.Success, ""},
		{batch[1].Request, trade.Failed, trade.StaleVersion},
		{batch[2].Request, trade.Failed, trade.InvalidRecord},
	}
	require.NoError(t, s.Decide(t.Context(), ends))
	states := s.keyed(t, batch...)
	for i, e := range ends {
		require.Equal(t, trade.KeyedState{Status: e.Status, Reason: e.Reason, Hash: batch[i].Hash}, states[batch[i].ID])
		requireEnd(t, RequestStoreSubject{Store: s.Store}, e)
		require.Equal(t, s.get(t, batch[i]), endedOf(t, RequestStoreSubject{Store: s.Store}, batch[i].ID)[batch[i].ID])
	}
	require.Equal(t, pendingKey(batch[3]), states[batch[3].ID])
	taken(t, s.Store.OpenKeyed(t.Context(), []*trade.KeyedRequest{sameKey(batch[0]), sameKey(batch[1])}), 2, 0, 1)
	require.Equal(t, states, s.keyed(t, batch...), "an end stays")
}

func oneOfABatchWins(t *testing.T, s KeyedSubject) {
	first := NewKeyedRequest("k", 0)
	other := NewKeyedRequest("other", 0)
	batch := []*trade.KeyedRequest{first, sameKey(first), other, sameKey(first)}
	errs := s.Store.OpenKeyed(t.Context(), batch)
	require.Len(t, errs, len(batch))
	require.NoError(t, errs[2])
	s.oneWon(t, []*trade.KeyedRequest{batch[0], batch[1], batch[3]}, []error{errs[0], errs[1], errs[3]})
}

// oneWon requires that one call took the key, and that the entry is the one of that call.
func (s KeyedSubject) oneWon(t *testing.T, batch []*trade.KeyedRequest, errs []error) {
	t.Helper()
	var winner *trade.KeyedRequest
	for i, err := range errs {
		if err == nil {
			require.Nil(t, winner, "two were told that they took the key")
			winner = batch[i]
			continue
		}
		require.ErrorIs(t, err, trade.ErrKeyTaken)
	}
	require.NotNil(t, winner)
	require.Equal(t, pendingKey(winner), s.keyed(t, winner)[winner.ID])
	require.Equal(t, PendingState(winner.Request), s.get(t, winner))
}

func oneOfSeveralCallsWins(t *testing.T, s KeyedSubject) {
	const calls, keys = 8, 6
	batches, results := make([][]*trade.KeyedRequest, calls), make([][]error, calls)
	first := keyedRequests(keys)
	var all sync.WaitGroup
	for c := range calls {
		batches[c] = make([]*trade.KeyedRequest, keys)
		for k := range keys { // each in an order of its own
			batches[c][k] = sameKey(first[(k*(c%2*4+1)+c)%keys])
		}
		all.Go(func() { results[c] = s.Store.OpenKeyed(t.Context(), batches[c]) })
	}
	all.Wait()
	for _, want := range first {
		var same []*trade.KeyedRequest
		var errs []error
		for c := range calls {
			for k, r := range batches[c] {
				if r.ID != want.ID {
					continue
				}
				same = append(same, r)
				if results[c] == nil {
					errs = append(errs, nil)
				} else {
					errs = append(errs, results[c][k])
				}
			}
		}
		s.oneWon(t, same, errs)
	}
}

func brokenGetKeyed(t *testing.T, s KeyedSubject) {
	r := NewKeyedRequest("k", 0)
	require.Nil(t, s.Store.OpenKeyed(t.Context(), []*trade.KeyedRequest{r}))
	want := map[trade.RequestID]trade.KeyedState{r.ID: pendingKey(r)}
	for _, when := range moments {
		s.Hurt(t, "GetKeyed", when)
		states, err := s.Store.GetKeyed(t.Context(), []trade.RequestID{r.ID})
		if err == nil {
			assert.Equal(t, want, states, "unknown is not absent")
		}
		require.Equal(t, want, s.keyed(t, r))
	}
}

// brokenOpenKeyed loses the first copy of a call, or its answer. The repeat must know which entries are its own.
func brokenOpenKeyed(t *testing.T, s KeyedSubject, when When) {
	before := NewKeyedRequest("key-1", 0)
	require.Nil(t, s.Store.OpenKeyed(t.Context(), []*trade.KeyedRequest{before}))
	batch := keyedRequests(60)
	s.Hurt(t, "OpenKeyed", when)
	errs := s.Store.OpenKeyed(t.Context(), batch)
	require.Len(t, errs, len(batch))
	require.ErrorIs(t, errs[1], trade.ErrKeyTaken)
	for i, r := range batch {
		if i == 1 {
			r = before
		} else if errs[i] != nil { // the store could not be asked again
			require.NotErrorIs(t, errs[i], trade.ErrKeyTaken, "request %d: the entry is its own", i)
			continue
		}
		require.Equal(t, PendingState(r.Request), s.get(t, r))
	}
	require.NoError(t, errs[0])
	require.NoError(t, errs[59])
}
