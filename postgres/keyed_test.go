package postgres

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/test/conformance"
	"tradestore/trade"
)

// keyed opens a request under a key, and appends its record.
func (l *topicLog) keyed(log *RequestStore, key string) *trade.KeyedRequest {
	l.t.Helper()
	r := conformance.NewKeyedRequest(key, 0)
	require.Nil(l.t, log.OpenKeyed(l.t.Context(), []*trade.KeyedRequest{r}))
	l.append(trade.Record{Request: *r.Request})
	return r
}

func (l *topicLog) keys() int { return l.db.count(l.t, "SELECT count(*) FROM idempotency") }

// A key is free again when its outcome is forgotten, and never before: not while its request is undecided.
func TestSweepFreesKeysWithTheirOutcome(t *testing.T) {
	l := newTopicLog(t)
	k, log := NewMaintainer(l.db.reads), NewRequestStore(l.db.reads)
	require.NoError(t, k.MakeDays(t.Context(), testNow))
	decided := l.keyed(log, "decided")
	l.apply()
	pending := l.keyed(log, "pending") // its record is still in the backlog
	l.projectAll()
	_, err := k.Sweep(t.Context(), testNow.Add(7*oneDay), week)
	require.NoError(t, err)
	require.Equal(t, 2, l.keys())

	later := testNow.Add(8 * oneDay)
	_, err = k.Sweep(t.Context(), later, week)
	require.NoError(t, err)
	require.Equal(t, 1, l.keys())
	_, err = log.Get(t.Context(), decided.ID)
	require.ErrorIs(t, err, trade.ErrNotFound)
	state, err := log.Get(t.Context(), pending.ID)
	require.NoError(t, err)
	require.Equal(t, trade.Pending, state.Status, "a pending request and its key outlive their day")

	// Under the free key a new request begins, with the same id and another day: the old outcome is not its own.
	again := conformance.NewKeyedRequest("decided", 0)
	again.AcceptedAt = later
	require.Nil(t, log.OpenKeyed(t.Context(), []*trade.KeyedRequest{again}))
	state, err = log.Get(t.Context(), again.ID)
	require.NoError(t, err)
	require.Equal(t, pendingStateOf(again), state)

	l.store.cfg.Now = func() time.Time { return later }
	l.apply()
	l.projectAll()
	_, err = k.Sweep(t.Context(), later.Add(6*oneDay), week)
	require.NoError(t, err)
	require.Equal(t, 2, l.keys(), "decided late, it is kept for the retention from then on")
	_, err = k.Sweep(t.Context(), later.Add(8*oneDay), week)
	require.NoError(t, err)
	states, err := log.GetKeyed(t.Context(), []trade.RequestID{pending.ID, again.ID})
	require.NoError(t, err)
	require.Equal(t, map[trade.RequestID]trade.KeyedState{again.ID: {Status: trade.Pending, Hash: again.Hash}}, states)
}

func pendingStateOf(r *trade.KeyedRequest) trade.RequestState {
	return trade.RequestState{ID: r.ID, Status: trade.Pending, TradeID: r.Trade.TradeID, Version: r.Trade.Version, AcceptedAt: r.AcceptedAt}
}

// While a key is free and the old journal row still there, a reader sees the new request alone.
func TestAFreedKeyIsNotTheOldRequest(t *testing.T) {
	l := newTopicLog(t)
	log := NewRequestStore(l.db.reads)
	l.keyed(log, "k")
	l.apply()
	l.db.exec(t, "DELETE FROM idempotency")
	again := conformance.NewKeyedRequest("k", 0)
	again.AcceptedAt = testNow.Add(8 * oneDay)
	require.Nil(t, log.OpenKeyed(t.Context(), []*trade.KeyedRequest{again}))
	state, err := log.Get(t.Context(), again.ID)
	require.NoError(t, err)
	require.Equal(t, pendingStateOf(again), state)
	l.append(trade.Record{Request: *again.Request})
	require.Equal(t, trade.Applied{Rows: 1}, l.apply(), "the old outcome does not make it a duplicate")
}

func TestSweepFreesManyKeysInSteps(t *testing.T) {
	d := newDatabase(t)
	k := NewMaintainer(d.reads)
	require.NoError(t, k.MakeDays(t.Context(), testNow))
	d.exec(t, `INSERT INTO journal (accepted_at, decided_at, accepted_on, generation, partition, "offset", request_id, outcome)
		SELECT $1, $1, $1::timestamptz::date, 1, 0, i, gen_random_uuid(), 'SUCCESS' FROM generate_series(0, $2::integer - 1) AS i`, testNow, 2*sweepStep+1)
	d.exec(t, `INSERT INTO idempotency SELECT accepted_on, request_id, gen_random_uuid(), sha256('x') FROM journal`)
	d.exec(t, `UPDATE projection_cursor SET projected_offset = $1`, 2*sweepStep+1)
	_, err := k.Sweep(t.Context(), testNow.Add(8*oneDay), week)
	require.NoError(t, err)
	require.Zero(t, d.count(t, "SELECT count(*) FROM idempotency"))
}

func TestOpenKeyedIsRefusedWhole(t *testing.T) {
	d := newDatabase(t)
	log := NewRequestStore(d.reads)
	good, bad := conformance.NewKeyedRequest("good", 0), conformance.NewKeyedRequest("bad", 0)
	d.exec(t, "ALTER TABLE requests ADD CONSTRAINT wrong CHECK (trade_id <> 'T-bad')")
	for _, err := range log.OpenKeyed(t.Context(), []*trade.KeyedRequest{good, bad}) {
		require.ErrorIs(t, err, trade.ErrNotOpened)
	}
	states, err := log.GetKeyed(t.Context(), []trade.RequestID{good.ID, bad.ID})
	require.NoError(t, err)
	require.Empty(t, states, "no key without its request")
}

func TestKeyedWithoutADatabase(t *testing.T) {
	log := NewRequestStore(openPool(t, "postgres://nobody@127.0.0.1:1/none", "reads", Open))
	r := conformance.NewKeyedRequest("k", 0)
	errs := log.OpenKeyed(t.Context(), []*trade.KeyedRequest{r})
	require.Len(t, errs, 1)
	require.ErrorIs(t, errs[0], trade.ErrNotOpened, "nothing was sent")
	_, err := log.GetKeyed(t.Context(), []trade.RequestID{r.ID})
	require.Error(t, err)
}

// Keys are probed, never scanned for, also when the planner knows nothing of them.
func TestKeysAreProbed(t *testing.T) {
	d := newDatabase(t)
	rows, err := d.reads.Query(t.Context(), "EXPLAIN "+readKeyed, [][16]byte{{1}, {2}})
	require.NoError(t, err)
	var plan []string
	for rows.Next() {
		var line string
		require.NoError(t, rows.Scan(&line))
		plan = append(plan, line)
	}
	require.NoError(t, rows.Err())
	text := strings.Join(plan, "\n")
	require.Contains(t, text, "idempotency_pkey")
	require.NotContains(t, text, "Seq Scan on idempotency")
}
