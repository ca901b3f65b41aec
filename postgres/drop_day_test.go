package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

// sweepWaitsFor waits until a session of the maintainer waits for the lock of a table.
func (d *testDatabase) sweepWaitsFor(t testing.TB, table string) {
	t.Helper()
	require.Eventually(t, func() bool {
		return d.count(t, `SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = $1::text::regclass`, table) > 0
	}, 20*time.Second, time.Millisecond)
}

// A drop that waits behind a reader holds nothing that the reader asks for next, and no snapshot, which would hold back
// VACUUM.
func TestDropLocksInTheOrderOfReaders(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	m := NewMaintainer(d.writer)
	require.NoError(t, m.MakeDays(t.Context(), testNow))
	reader := newRival(t, d, "LOCK TABLE journal IN ACCESS SHARE MODE")
	done := make(chan error, 1)
	go func() {
		_, err := m.Sweep(t.Context(), testNow.Add(7*oneDay), week)
		done <- err
	}()
	d.sweepWaitsFor(t, "journal")
	reader.exec("LOCK TABLE requests IN ACCESS SHARE MODE NOWAIT")
	require.Zero(t, d.count(t, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
		AND application_name = 'writer' AND backend_xmin IS NOT NULL`))
	reader.commit()
	require.NoError(t, <-done)
	require.Equal(t, 8, d.days(t, "journal"))
}

// A request that is decided after the drop has looked for undecided ones goes with its outcome: it is never PENDING
// again.
func TestDropOfARequestThatIsDecidedMeanwhile(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	m, requests := NewMaintainer(l.db.reads), NewRequestStore(l.db.reads)
	require.NoError(t, m.MakeDays(t.Context(), testNow))
	late, pending := l.open(requests, "T1", 1, "a"), l.open(requests, "T2", 1, "a")
	l.pending = l.pending[:1]
	l.next[pending.Partition]-- // its record never comes
	l.db.exec(t, `UPDATE projection_cursor SET projected_offset = 1000`)
	reader := newRival(t, l.db, "LOCK TABLE journal IN ACCESS SHARE MODE")
	done := make(chan error, 1)
	go func() {
		_, err := m.Sweep(t.Context(), testNow.Add(8*oneDay), week)
		done <- err
	}()
	l.db.sweepWaitsFor(t, "journal")
	l.apply()
	reader.commit()
	require.NoError(t, <-done)
	_, err := requests.Get(t.Context(), late.ID)
	require.ErrorIs(t, err, trade.ErrNotFound)
	state, err := requests.Get(t.Context(), pending.ID)
	require.NoError(t, err)
	require.Equal(t, trade.Pending, state.Status)
	require.Equal(t, 7, l.db.days(t, "requests"))
}

// Days are dropped while every kind of reader and writer works as fast as it can.
func TestSweepUnderLoad(t *testing.T) {
	const old = 4
	l := newTopicLog(t)
	m := NewMaintainer(openPool(t, l.db.url, "maintainer", Open))
	cfg := Config{URL: l.db.url, ApplicationName: "load", MaxConns: 10} // one for each loop
	pool, err := Open(t.Context(), cfg, prometheus.NewRegistry())
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	requests := NewRequestStore(pool)
	for day := range old + 1 {
		at := testNow.Add(time.Duration(day-old) * oneDay)
		require.NoError(t, m.MakeDays(t.Context(), at))
		l.db.exec(t, `INSERT INTO requests SELECT $1, $1::timestamptz::date, 0, 1, gen_random_uuid(), 'old', NULL
			FROM generate_series(1, 3000)`, at)
	}
	l.db.exec(t, `
		INSERT INTO journal (accepted_at, decided_at, accepted_on, generation, partition, "offset", request_id, outcome)
		SELECT accepted_at, accepted_at, accepted_on, 1, 0, -1, request_id, 'SUCCESS' FROM requests
		WHERE accepted_on < $1 AND request_id > '01000000-0000-0000-0000-000000000000'`, testNow)
	before := l.db.count(t, `SELECT count(*) FROM requests AS r WHERE NOT EXISTS (
		SELECT FROM journal AS s WHERE s.accepted_on = r.accepted_on AND s.request_id = r.request_id)`)

	load := startLoad(t, l, requests)
	for day := range old {
		swept, err := m.Sweep(t.Context(), testNow.Add(time.Duration(day-old+8)*oneDay), week)
		require.NoError(t, err)
		require.GreaterOrEqual(t, swept.JournalDays, 1)
	}
	load.stop()
	t.Logf("longest stalls of %d calls: %v", load.calls, load.longest)
	after := l.db.count(t, `SELECT count(*) FROM requests AS r WHERE r.trade_id = 'old' AND NOT EXISTS (
		SELECT FROM journal AS s WHERE s.accepted_on = r.accepted_on AND s.request_id = r.request_id)`)
	require.Equal(t, before, after, "every undecided request is still there")
}

// load calls the stores in loops until it is stopped, and keeps the longest call of each kind.
type load struct {
	t       testing.TB
	cancel  context.CancelFunc
	loops   sync.WaitGroup
	mu      sync.Mutex
	calls   int
	longest map[string]time.Duration
}

func (l *load) loop(ctx context.Context, name string, call func(ctx context.Context) error) {
	l.loops.Go(func() {
		for ctx.Err() == nil {
			start := time.Now()
			err := call(context.WithoutCancel(ctx))
			if err != nil && !errors.Is(err, trade.ErrNotFound) {
				l.t.Errorf("%s: %v", name, err)
				return
			}
			l.mu.Lock()
			l.calls++
			l.longest[name] = max(l.longest[name], time.Since(start).Round(time.Millisecond))
			l.mu.Unlock()
		}
	})
}

func (l *load) stop() {
	l.cancel()
	l.loops.Wait()
}

func startLoad(t testing.TB, log *topicLog, requests *RequestStore) *load {
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{t: t, cancel: cancel, longest: map[string]time.Duration{}}
	t.Cleanup(l.stop)
	known, unknown := trade.NewRequestID(testNow), trade.NewRequestID(testNow.Add(-100*oneDay))
	for range 2 {
		l.loop(ctx, "read of a day", func(ctx context.Context) error {
			_, err := requests.Get(ctx, known)
			return err
		})
		l.loop(ctx, "read of all days", func(ctx context.Context) error {
			_, err := requests.Get(ctx, unknown)
			return err
		})
	}
	l.loop(ctx, "pending of a trade", func(ctx context.Context) error {
		_, err := requests.PendingOf(ctx, "T", 10)
		return err
	})
	l.loop(ctx, "open", func(ctx context.Context) error {
		r := trade.Request{ID: trade.NewRequestID(testNow), AcceptedAt: testNow, Trade: newTrade("T", 1, "a")}
		return errors.Join(requests.Open(ctx, []*trade.Request{&r})...)
	})
	maintainer := NewMaintainer(requests.pool)
	l.loop(ctx, "summarize", func(ctx context.Context) error {
		_, err := maintainer.Summarize(ctx)
		return err
	})
	made := 0
	l.loop(ctx, "apply", func(ctx context.Context) error {
		for range 100 {
			made++
			log.add(fmt.Sprintf("L%d", made), 1, "a")
		}
		_, err := log.store.Apply(ctx, log.batch())
		return err
	})
	return l
}
