package conformance

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

// requestStore is a request store as both roles see it.
type requestStore interface {
	Open(ctx context.Context, batch []*trade.Request) []error
	Get(ctx context.Context, id trade.RequestID) (trade.RequestState, error)
	Ended(ctx context.Context, ids []trade.RequestID) ([]trade.RequestState, error)
	Project(ctx context.Context, outcomes []trade.Decision) error
	Pending(ctx context.Context, partitions []int32, before time.Time, limit int) ([]trade.PendingRequest, error)
	PendingOf(ctx context.Context, tradeID string, limit int) ([]trade.PendingRequest, error)
}

// End is what was decided about a request.
type End struct {
	Request *trade.Request
	Status  trade.Status
	Reason  trade.Code // STALE_VERSION or INVALID_RECORD; empty on SUCCESS
}

// RequestStoreSubject is an empty request store under test.
type RequestStoreSubject struct {
	Store requestStore
	// Decide gives requests their outcomes in the way of this store: through the journal, or through Project. It may be
	// called concurrently and repeatedly. nil means that clients see an outcome of every given request.
	Decide func(ctx context.Context, ends []End) error
	// Hurt makes the next call of a method fail, once: Open, Get, Ended or Decide. The call after it works again.
	Hurt func(t *testing.T, method string, when When)
}

// RequestStore runs the contract of a request store.
func RequestStore(t *testing.T, open func(t *testing.T) RequestStoreSubject) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s RequestStoreSubject)
	}{
		{"a request from PENDING to its end", fromPendingToEnd},
		{"a request ends once", endsOnce},
		{"project creates nothing", projectCreatesNothing},
		{"several decide at once", severalDecide},
		{"a reading that failed", brokenGet},
		{"a reading of many that failed", brokenEnded},
		{"what is pending can be found", pendingIsFound},
		{"what is pending of a trade", pendingOfATrade},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, open(t))
		})
	}
	for _, when := range moments {
		t.Run("open "+when.String(), func(t *testing.T) { brokenOpen(t, open(t), when) })
		t.Run("decide "+when.String(), func(t *testing.T) { brokenDecide(t, open(t), when) })
	}
}

func requests(n int) []*trade.Request {
	batch := make([]*trade.Request, n)
	for i := range batch {
		batch[i] = NewRequest(fmt.Sprintf("T-%d", i), int32(i+1), int32(i%4))
	}
	return batch
}

func ends(batch []*trade.Request, status trade.Status, reason trade.Code) []End {
	all := make([]End, len(batch))
	for i, r := range batch {
		all[i] = End{r, status, reason}
	}
	return all
}

func opened(t *testing.T, s RequestStoreSubject, n int) []*trade.Request {
	t.Helper()
	batch := requests(n)
	require.Nil(t, s.Store.Open(t.Context(), batch))
	return batch
}

// PendingState returns what a request store shows of a request without an outcome.
func PendingState(r *trade.Request) trade.RequestState {
	return trade.RequestState{ID: r.ID, Status: trade.Pending, TradeID: r.Trade.TradeID, Version: r.Trade.Version,
		AcceptedAt: r.AcceptedAt}
}

// PendingRequest returns what Pending says of a request without an outcome.
func PendingRequest(r *trade.Request) trade.PendingRequest {
	return trade.PendingRequest{ID: r.ID, AcceptedAt: r.AcceptedAt, Partition: r.Partition, TradeID: r.Trade.TradeID,
		Version: r.Trade.Version, CorrelationID: r.CorrelationID}
}

func get(t *testing.T, s RequestStoreSubject, r *trade.Request) trade.RequestState {
	t.Helper()
	state, err := s.Store.Get(t.Context(), r.ID)
	require.NoError(t, err)
	return state
}

// requireEnd checks what a client sees of a decided request.
func requireEnd(t *testing.T, s RequestStoreSubject, e End) {
	t.Helper()
	got, want := get(t, s, e.Request), PendingState(e.Request)
	require.False(t, got.DecidedAt.IsZero())
	require.Equal(t, e.Status == trade.Failed, got.Detail != "", "people read why a request failed")
	want.Status, want.Reason, want.Detail, want.DecidedAt = e.Status, e.Reason, got.Detail, got.DecidedAt
	require.Equal(t, want, got)
}

func requireAbsent(t *testing.T, s RequestStoreSubject, r *trade.Request) {
	t.Helper()
	_, err := s.Store.Get(t.Context(), r.ID)
	require.ErrorIs(t, err, trade.ErrNotFound)
}

func fromPendingToEnd(t *testing.T, s RequestStoreSubject) {
	require.Nil(t, s.Store.Open(t.Context(), nil))
	require.NoError(t, s.Store.Project(t.Context(), nil))
	requireAbsent(t, s, NewRequest("T", 1, 0))

	batch := opened(t, s, 512)
	for _, i := range []int{0, 1, 24, 25, 26, 255, 256, 511} {
		require.Equal(t, PendingState(batch[i]), get(t, s, batch[i]))
	}
	decided := ends(batch[:500], trade.Success, "")
	decided[1] = End{batch[1], trade.Failed, trade.StaleVersion}
	decided[2] = End{batch[2], trade.Failed, trade.InvalidRecord}
	require.NoError(t, s.Decide(t.Context(), decided))
	for _, i := range []int{0, 1, 2, 3, 499} {
		requireEnd(t, s, decided[i])
	}
	require.Equal(t, PendingState(batch[500]), get(t, s, batch[500]))

	ids := []trade.RequestID{NewRequest("T", 1, 0).ID, batch[0].ID} // one that is unknown, one that is named twice
	for _, r := range batch {
		ids = append(ids, r.ID)
	}
	all := endedOf(t, s, ids...)
	require.Len(t, all, len(decided))
	for _, e := range decided {
		require.Equal(t, get(t, s, e.Request), all[e.Request.ID])
	}
	require.Empty(t, endedOf(t, s))
}

func endedOf(t *testing.T, s RequestStoreSubject, ids ...trade.RequestID) map[trade.RequestID]trade.RequestState {
	t.Helper()
	states, err := s.Store.Ended(t.Context(), ids)
	require.NoError(t, err)
	all := make(map[trade.RequestID]trade.RequestState, len(states))
	for _, state := range states {
		all[state.ID] = state
	}
	return all
}

func endsOnce(t *testing.T, s RequestStoreSubject) {
	batch := opened(t, s, 3)
	good, bad := ends(batch, trade.Success, ""), ends(batch, trade.Failed, trade.InvalidRecord)
	require.NoError(t, s.Decide(t.Context(), []End{good[0], bad[1]}))
	first := []trade.RequestState{get(t, s, batch[0]), get(t, s, batch[1])}
	unchanged := func() {
		t.Helper()
		require.Equal(t, first, []trade.RequestState{get(t, s, batch[0]), get(t, s, batch[1])})
	}
	require.NoError(t, s.Decide(t.Context(), []End{good[0], bad[1]}))
	unchanged()
	require.NoError(t, s.Decide(t.Context(), []End{bad[0], good[1], good[2]}), "an outcome that stays is no error")
	unchanged()
	requireEnd(t, s, good[2])
	require.NoError(t, s.Store.Project(t.Context(), []trade.Decision{outcome(bad[0]), outcome(good[1])}))
	unchanged()
}

func outcome(e End) trade.Decision {
	o := trade.Decision{RequestState: PendingState(e.Request), Generation: 1, Partition: e.Request.Partition}
	o.Status, o.Reason, o.DecidedAt = e.Status, e.Reason, e.Request.AcceptedAt
	return o
}

func projectCreatesNothing(t *testing.T, s RequestStoreSubject) {
	known, unknown := opened(t, s, 1)[0], NewRequest("T", 1, 0)
	require.NoError(t, s.Store.Project(t.Context(), []trade.Decision{outcome(End{unknown, trade.Success, ""})}))
	requireAbsent(t, s, unknown)
	require.Equal(t, PendingState(known), get(t, s, known))
}

// severalDecide lets writers with different outcomes race while a reader reads: it never sees a second outcome.
func severalDecide(t *testing.T, s RequestStoreSubject) {
	batch := opened(t, s, 40)
	over, stop := context.WithCancel(t.Context())
	var writers, readers sync.WaitGroup
	readers.Go(func() {
		seen := make(map[trade.RequestID]trade.RequestState)
		for over.Err() == nil {
			for _, r := range batch {
				state, err := s.Store.Get(t.Context(), r.ID)
				if !assert.NoError(t, err) {
					return
				}
				if before, ok := seen[r.ID]; ok {
					assert.Equal(t, before, state, "an end has changed")
				}
				if state.Status.Terminal() {
					seen[r.ID] = state
				}
			}
		}
	})
	for n := range 4 {
		decided := ends(batch, trade.Success, "")
		if n%2 == 1 {
			decided = ends(batch, trade.Failed, trade.InvalidRecord)
		}
		writers.Go(func() { assert.NoError(t, s.Decide(t.Context(), decided)) })
	}
	writers.Wait()
	stop()
	readers.Wait()
	for _, r := range batch {
		require.True(t, get(t, s, r).Status.Terminal())
	}
}

// pendingIsFound waits, because an entry may be missing for a while. A projected entry must never be in the result.
func pendingIsFound(t *testing.T, s RequestStoreSubject) {
	batch := opened(t, s, 130)
	require.NoError(t, s.Decide(t.Context(), ends(batch[:20], trade.Success, "")))
	var want []trade.PendingRequest
	for _, r := range batch[20:] {
		want = append(want, PendingRequest(r))
	}
	of := []int32{0, 1, 2, 3}
	f := func(before time.Time, limit int, want []trade.PendingRequest) {
		t.Helper()
		require.Eventually(t, func() bool {
			got, err := s.Store.Pending(t.Context(), of, before, limit)
			assert.NoError(t, err)
			for _, p := range got {
				assert.Contains(t, want, p)
			}
			return len(got) == len(want)
		}, 10*time.Second, 10*time.Millisecond)
		got, err := s.Store.Pending(t.Context(), of, before, limit)
		require.NoError(t, err)
		for i := range want {
			require.True(t, want[i].AcceptedAt.Equal(got[i].AcceptedAt), "the oldest first")
		}
	}
	later := batch[len(batch)-1].AcceptedAt.Add(time.Second)
	f(batch[50].AcceptedAt, 1000, want[:30])
	f(later, 1000, want)
	f(later, 7, want[:7])
	of = nil
	f(later, 1000, nil)
	of = []int32{1, 3} // each worker has its own: the rate of closing grows with the workers
	var mine []trade.PendingRequest
	for _, p := range want {
		if p.Partition%2 == 1 {
			mine = append(mine, p)
		}
	}
	f(later, 1000, mine)
	f(later, 7, mine[:7])
	of = []int32{0, 1, 2, 3}
	f(later, 1000, want)
	require.NoError(t, s.Decide(t.Context(), ends(batch[20:125], trade.Failed, trade.InvalidRecord)))
	f(later, 1000, want[105:])
}

// pendingOfATrade checks PendingOf. The store is nearly empty, so an implementation that reads a bounded number of
// requests reads them all.
func pendingOfATrade(t *testing.T, s RequestStoreSubject) {
	accepted := time.Now().UTC().Truncate(time.Microsecond)
	batch := make([]*trade.Request, 4)
	for i := range batch {
		batch[i] = NewRequest([]string{"T", "T", "other", "T"}[i], int32(i+1), 0)
		batch[i].AcceptedAt = accepted.Add(time.Duration(i) * time.Microsecond)
		batch[i].ID = trade.NewRequestID(batch[i].AcceptedAt)
	}
	require.Nil(t, s.Store.Open(t.Context(), batch))
	f := func(limit int, want ...*trade.Request) {
		t.Helper()
		require.Eventually(t, func() bool {
			got, err := s.Store.PendingOf(t.Context(), "T", limit)
			require.NoError(t, err)
			if len(got) != len(want) {
				return false
			}
			for i, r := range want {
				require.Equal(t, []any{r.ID, "T", r.Trade.Version}, []any{got[i].ID, got[i].TradeID, got[i].Version})
				require.True(t, r.AcceptedAt.Equal(got[i].AcceptedAt))
			}
			return true
		}, 10*time.Second, 10*time.Millisecond)
	}
	f(10, batch[0], batch[1], batch[3])
	f(2, batch[0], batch[1])
	require.NoError(t, s.Decide(t.Context(), ends(batch[:1], trade.Success, "")))
	f(10, batch[1], batch[3])
}

func brokenGet(t *testing.T, s RequestStoreSubject) {
	r := opened(t, s, 1)[0]
	for _, when := range moments {
		s.Hurt(t, "Get", when)
		state, err := s.Store.Get(t.Context(), r.ID)
		if err == nil { // reads may be repeated
			require.Equal(t, PendingState(r), state)
		}
		require.NotErrorIs(t, err, trade.ErrNotFound, "unknown is not absent")
		require.Equal(t, PendingState(r), get(t, s, r))
	}
}

func brokenEnded(t *testing.T, s RequestStoreSubject) {
	batch := opened(t, s, 2)
	require.NoError(t, s.Decide(t.Context(), ends(batch[:1], trade.Success, "")))
	for _, when := range moments {
		s.Hurt(t, "Ended", when)
		states, err := s.Store.Ended(t.Context(), []trade.RequestID{batch[0].ID, batch[1].ID})
		if err == nil { // reads may be repeated
			require.Len(t, states, 1)
		}
		require.Len(t, endedOf(t, s, batch[0].ID, batch[1].ID), 1)
	}
}

// brokenOpen compares each error with what the store has: ErrNotOpened must never be returned for a stored entry.
func brokenOpen(t *testing.T, s RequestStoreSubject, when When) {
	s.Hurt(t, "Open", when)
	batch := requests(60)
	errs := s.Store.Open(t.Context(), batch)
	require.Len(t, errs, len(batch), "one answer for each, in order")
	broken := 0
	for i, r := range batch {
		_, err := s.Store.Get(t.Context(), r.ID)
		stored := !errors.Is(err, trade.ErrNotFound)
		if stored {
			require.NoError(t, err)
		}
		if errs[i] == nil {
			require.True(t, stored, "request %d was promised", i)
			continue
		}
		broken++
		require.Equal(t, when == After, stored)
		require.False(t, stored && errors.Is(errs[i], trade.ErrNotOpened), "request %d: %v, but it is there", i, errs[i])
	}
	require.Positive(t, broken)
	require.Nil(t, s.Store.Open(t.Context(), requests(60)), "others are not affected")
}

func brokenDecide(t *testing.T, s RequestStoreSubject, when When) {
	batch := opened(t, s, 3)
	decided := ends(batch, trade.Success, "")
	s.Hurt(t, "Decide", when)
	err := s.Decide(t.Context(), decided)
	for _, e := range decided {
		if err == nil || when == After {
			requireEnd(t, s, e)
		} else {
			require.Equal(t, PendingState(e.Request), get(t, s, e.Request))
		}
	}
	first := get(t, s, batch[0])
	require.NoError(t, s.Decide(t.Context(), decided), "a repeat is safe")
	for _, e := range decided {
		requireEnd(t, s, e)
	}
	if first.Status.Terminal() {
		require.Equal(t, first, get(t, s, batch[0]))
	}
}
