package postgres

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/test/conformance"
	"tradestore/trade"
)

// open appends a record and opens its request, in the order of the server.
func (l *topicLog) open(requests *RequestStore, tradeID string, version int32, book string) trade.Record {
	l.t.Helper()
	r := l.add(tradeID, version, book)
	require.Nil(l.t, requests.Open(l.t.Context(), []*trade.Request{&r.Request}))
	return r
}

func TestRequestFromPendingToItsEnd(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	requests := NewRequestStore(l.db.reads)
	stored := l.open(requests, "T1", 2, "a")
	stale := l.open(requests, "T1", 1, "a")
	poison := l.open(requests, "T2", 9, "a")
	l.pending[2].Fault = "unreadable"

	get := func(r trade.Record) trade.RequestState {
		t.Helper()
		state, err := requests.Get(t.Context(), r.ID)
		require.NoError(t, err)
		return state
	}
	pending := func(r trade.Record) trade.RequestState { return conformance.PendingState(&r.Request) }
	for _, r := range []trade.Record{stored, stale, poison} {
		require.Equal(t, pending(r), get(r))
	}

	l.apply()
	end := func(r trade.Record, s trade.Status, code trade.Code, detail string) {
		t.Helper()
		want := pending(r)
		want.Status, want.Reason, want.Detail, want.DecidedAt = s, code, detail, testNow.Add(time.Second)
		require.Equal(t, want, get(r))
	}
	end(stored, trade.Success, "", "")
	end(stale, trade.Failed, trade.StaleVersion, trade.StaleDetail(1, 2))
	end(poison, trade.Failed, trade.InvalidRecord, "unreadable")
	require.NoError(t, requests.Project(t.Context(), nil))
	require.Nil(t, requests.Open(t.Context(), nil))

	_, err := requests.Get(t.Context(), trade.NewRequestID(testNow))
	require.ErrorIs(t, err, trade.ErrNotFound)
}

// One COPY stores all entries or none.
func TestOpenIsAllOrNothing(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	requests := NewRequestStore(d.reads)
	l := &topicLog{t: t, db: d}
	a, b, c := l.add("T1", 1, "a"), l.add("T2", 1, "a"), l.add("T3", 1, "a")

	d.exec(t, "ALTER TABLE requests ADD CONSTRAINT wrong CHECK (trade_id <> 'T2')")
	errs := requests.Open(t.Context(), []*trade.Request{&a.Request, &b.Request})
	require.Len(t, errs, 2)
	for _, err := range errs {
		require.ErrorIs(t, err, trade.ErrNotOpened)
	}
	_, err := requests.Get(t.Context(), a.ID)
	require.ErrorIs(t, err, trade.ErrNotFound)

	require.Nil(t, requests.Open(t.Context(), []*trade.Request{&a.Request}))
	errs = requests.Open(t.Context(), []*trade.Request{&c.Request, &a.Request})
	require.Len(t, errs, 2)
	for _, err := range errs {
		require.False(t, errors.Is(err, trade.ErrNotOpened), "an entry of that id exists")
	}
}

func TestOpenWithoutADatabase(t *testing.T) {
	t.Parallel()
	requests := NewRequestStore(openPool(t, unreachable, "reads", Open))
	r := trade.Request{ID: trade.NewRequestID(testNow), AcceptedAt: testNow}
	errs := requests.Open(t.Context(), []*trade.Request{&r})
	require.Len(t, errs, 1)
	require.ErrorIs(t, errs[0], trade.ErrNotOpened, "nothing was sent")
	_, err := requests.Get(t.Context(), r.ID)
	require.Error(t, err)
	require.False(t, errors.Is(err, trade.ErrNotFound), "unknown is not absent")
}
