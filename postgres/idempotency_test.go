package postgres

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/test/conformance"
	"tradestore/trade"
)

// keyed opens a request under a key, and appends its record.
func (l *topicLog) keyed(requests *RequestStore, key string) *trade.KeyedRequest {
	l.t.Helper()
	r := conformance.NewKeyedRequest(key, 0)
	require.Nil(l.t, requests.OpenKeyed(l.t.Context(), []*trade.KeyedRequest{r}))
	l.append(trade.Record{Request: *r.Request})
	return r
}

func (l *topicLog) keys() int { return l.db.count(l.t, "SELECT count(*) FROM idempotency") }

// A key is free again when its outcome is forgotten, and never before: not while its request is undecided.
func TestSweepFreesKeysWithTheirOutcome(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	m, requests := NewMaintainer(l.db.reads), NewRequestStore(l.db.reads)
	require.NoError(t, m.MakeDays(t.Context(), testNow))
	decided := l.keyed(requests, "decided")
	l.apply()
	pending := l.keyed(requests, "pending") // its record is still in the backlog
	l.projectAll()
	_, err := m.Sweep(t.Context(), testNow.Add(7*oneDay), week)
	require.NoError(t, err)
	require.Equal(t, 2, l.keys())

	later := testNow.Add(8 * oneDay)
	_, err = m.Sweep(t.Context(), later, week)
	require.NoError(t, err)
	require.Equal(t, 1, l.keys())
	_, err = requests.Get(t.Context(), decided.ID)
	require.ErrorIs(t, err, trade.ErrNotFound)
	state, err := requests.Get(t.Context(), pending.ID)
	require.NoError(t, err)
	require.Equal(t, trade.Pending, state.Status, "a pending request and its key outlive their day")

	// Under the free key a new request begins, with the same id and another day: the old outcome is not its own.
	again := conformance.NewKeyedRequest("decided", 0)
	again.AcceptedAt = later
	require.Nil(t, requests.OpenKeyed(t.Context(), []*trade.KeyedRequest{again}))
	state, err = requests.Get(t.Context(), again.ID)
	require.NoError(t, err)
	require.Equal(t, conformance.PendingState(again.Request), state)

	l.store.cfg.Now = func() time.Time { return later }
	l.apply()
	l.projectAll()
	_, err = m.Sweep(t.Context(), later.Add(6*oneDay), week)
	require.NoError(t, err)
	require.Equal(t, 2, l.keys(), "decided late, it is kept for the retention from then on")
	_, err = m.Sweep(t.Context(), later.Add(8*oneDay), week)
	require.NoError(t, err)
	states, err := requests.GetKeyed(t.Context(), []trade.RequestID{pending.ID, again.ID})
	require.NoError(t, err)
	require.Equal(t, map[trade.RequestID]trade.KeyedState{again.ID: {Status: trade.Pending, Hash: again.Hash}}, states)
}

// While a key is free and the old journal row still there, a reader sees the new request alone.
func TestAFreedKeyIsNotTheOldRequest(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	requests := NewRequestStore(l.db.reads)
	l.keyed(requests, "k")
	l.apply()
	l.db.exec(t, "DELETE FROM idempotency")
	again := conformance.NewKeyedRequest("k", 0)
	again.AcceptedAt = testNow.Add(8 * oneDay)
	require.Nil(t, requests.OpenKeyed(t.Context(), []*trade.KeyedRequest{again}))
	state, err := requests.Get(t.Context(), again.ID)
	require.NoError(t, err)
	require.Equal(t, conformance.PendingState(again.Request), state)
	l.append(trade.Record{Request: *again.Request})
	require.Equal(t, trade.Applied{Rows: 1}, l.apply(), "the old outcome does not make it a duplicate")
}

func TestSweepFreesManyKeysInSteps(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	m := NewMaintainer(d.reads)
	require.NoError(t, m.MakeDays(t.Context(), testNow))
	d.fillJournal(t, 2*sweepStep+1)
	d.exec(t, `INSERT INTO idempotency SELECT accepted_on, request_id, gen_random_uuid(), sha256('x') FROM journal`)
	d.exec(t, `UPDATE projection_cursor SET projected_offset = $1`, 2*sweepStep+1)
	_, err := m.Sweep(t.Context(), testNow.Add(8*oneDay), week)
	require.NoError(t, err)
	require.Zero(t, d.count(t, "SELECT count(*) FROM idempotency"))
}

func TestOpenKeyedIsRefusedWhole(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	requests := NewRequestStore(d.reads)
	good, bad := conformance.NewKeyedRequest("good", 0), conformance.NewKeyedRequest("bad", 0)
	d.exec(t, "ALTER TABLE requests ADD CONSTRAINT wrong CHECK (trade_id <> 'T-bad')")
	for _, err := range requests.OpenKeyed(t.Context(), []*trade.KeyedRequest{good, bad}) {
		require.ErrorIs(t, err, trade.ErrNotOpened)
	}
	states, err := requests.GetKeyed(t.Context(), []trade.RequestID{good.ID, bad.ID})
	require.NoError(t, err)
	require.Empty(t, states, "no key without its request")
}

func TestKeyedWithoutADatabase(t *testing.T) {
	t.Parallel()
	requests := NewRequestStore(openPool(t, unreachable, "reads", Open))
	r := conformance.NewKeyedRequest("k", 0)
	errs := requests.OpenKeyed(t.Context(), []*trade.KeyedRequest{r})
	require.Len(t, errs, 1)
	require.ErrorIs(t, errs[0], trade.ErrNotOpened, "nothing was sent")
	_, err := requests.GetKeyed(t.Context(), []trade.RequestID{r.ID})
	require.Error(t, err)
}

// Keys are probed, never scanned for, also when the planner knows nothing of them.
func TestKeysAreProbed(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	text := d.explain(t, readKeyed.on("journal", "requests"), testNow, [][16]byte{{1}, {2}})
	require.Contains(t, text, "idempotency_pkey")
	require.NotContains(t, text, "Seq Scan on idempotency")
}
