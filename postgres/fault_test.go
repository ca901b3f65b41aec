package postgres

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

// rival is a second session that holds something open.
type rival struct {
	t  testing.TB
	tx pgx.Tx
}

func newRival(t testing.TB, d *testDatabase, sql string, args ...any) *rival {
	t.Helper()
	tx, err := d.reads.Begin(t.Context())
	require.NoError(t, err)
	r := &rival{t, tx}
	t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) })
	r.exec(sql, args...)
	return r
}

func (r *rival) exec(sql string, args ...any) {
	r.t.Helper()
	_, err := r.tx.Exec(r.t.Context(), sql, args...)
	require.NoError(r.t, err)
}

func (r *rival) commit()   { require.NoError(r.t, r.tx.Commit(r.t.Context())) }
func (r *rival) rollback() { require.NoError(r.t, r.tx.Rollback(r.t.Context())) }

// waiting blocks until a session of the writer pool waits for a lock, and returns its process id.
func (d *testDatabase) waiting(t testing.TB) int {
	t.Helper()
	pid := 0
	require.Eventually(t, func() bool {
		err := d.reads.QueryRow(t.Context(), `SELECT pid FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'writer' AND wait_event_type = 'Lock'`).Scan(&pid)
		return err == nil
	}, 10*time.Second, time.Millisecond)
	return pid
}

// start applies a batch in the background.
func (l *topicLog) start(store *Store, batch *trade.Batch) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := store.Apply(l.t.Context(), batch)
		done <- err
	}()
	return done
}

// Another transaction decides a request after begin: the whole transaction fails, and the next try drops the record.
func TestJournalConflict(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	r := l.add("T1", 1, "late")
	other := newRival(t, l.db, `
		INSERT INTO journal (accepted_on, request_id, accepted_at, decided_at, generation, partition, outcome)
		VALUES ($1::timestamptz::date, $2, $1, $1, 1, 0, 'FAILED')`, r.AcceptedAt, [16]byte(r.ID))
	batch := l.batch()
	done := l.start(l.store, batch)
	l.db.waiting(t)
	other.commit()
	err := <-done
	require.Equal(t, trade.Repeatable, trade.ClassOf(err), "%v", err)
	require.Zero(t, l.db.count(t, "SELECT count(*) FROM trades"))
	require.Zero(t, l.db.count(t, "SELECT sum(next_offset) FROM ingest_offsets"))

	applied, err := l.store.Apply(t.Context(), batch)
	require.NoError(t, err)
	require.Equal(t, trade.Applied{Duplicates: 1}, applied)
	require.Zero(t, l.db.count(t, "SELECT count(*) FROM trades"), "the first decision stands")
}

func TestDeadlock(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	l.add("T1", 1, "a")
	l.add("T2", 1, "a")
	l.apply()
	other := newRival(t, l.db, "SET LOCAL deadlock_timeout = '1min'") // the other side is the victim
	other.exec("UPDATE trades SET book_id = 'rival' WHERE trade_id = 'T2'")
	l.add("T1", 1, "b")
	l.add("T2", 1, "b")
	batch := l.batch()
	done := l.start(l.store, batch)
	l.db.waiting(t)
	other.exec("UPDATE trades SET book_id = 'rival' WHERE trade_id = 'T1'")
	err := <-done
	require.Equal(t, trade.Repeatable, trade.ClassOf(err), "%v", err)
	other.rollback()
	_, err = l.store.Apply(t.Context(), batch)
	require.NoError(t, err)
	require.Equal(t, "b", l.db.book(t, "T2", 1))
}

func TestKilledSession(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	l.add("T1", 1, "a")
	l.apply()
	other := newRival(t, l.db, "SELECT FROM trades FOR UPDATE")
	l.add("T1", 1, "b")
	l.add("T1", 2, "b")
	batch := l.batch()
	before := l.db.contents(t)
	done := l.start(l.store, batch)
	l.db.exec(t, "SELECT pg_terminate_backend($1)", l.db.waiting(t))
	err := <-done
	require.Equal(t, trade.Unavailable, trade.ClassOf(err), "%v", err)
	other.rollback()
	require.Equal(t, before, l.db.contents(t))
	applied, err := l.store.Apply(t.Context(), batch)
	require.NoError(t, err, "on a new session")
	require.Equal(t, 2, applied.Rows)
}

func TestTimeLimit(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	l.add("T1", 1, "a")
	l.apply()
	other := newRival(t, l.db, "SELECT FROM trades FOR UPDATE")
	l.add("T1", 1, "b")
	l.store.cfg.TxTimeout = 50 * time.Millisecond
	l.refused(t.Context(), trade.Unavailable)
	other.rollback()
}

func TestCancelledApply(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	l.add("T1", 1, "a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l.refused(ctx, trade.Unavailable)
}

func TestDatabaseIsDown(t *testing.T) {
	t.Parallel()
	store := NewStore(openPool(t, unreachable, "writer", OpenWriter), StoreConfig{Topic: testTopic})
	f := func(err error) {
		t.Helper()
		require.Error(t, err)
		require.Equal(t, trade.Unavailable, trade.ClassOf(err))
	}
	_, err := store.Apply(t.Context(), &trade.Batch{})
	f(err)
	_, err = store.Positions(t.Context())
	f(err)
	_, err = store.Unprojected(t.Context(), allPartitions, 1)
	f(err)
	f(store.Projected(t.Context(), []trade.Decision{{}}))
	f(AddTopic(t.Context(), store.pool, testTopic, testTopicID, 1))
}

// The connection breaks around COMMIT, before and after the server has it. The client can't tell, the positions do.
func TestUnknownCommit(t *testing.T) {
	t.Parallel()
	f := func(cut func(p *proxy), happened bool) {
		t.Helper()
		l := newTopicLog(t)
		p := newProxy(t, l.db.url)
		store := NewStore(openPool(t, p.url, "writer", OpenWriter), StoreConfig{Topic: testTopic})
		l.add("T1", 1, "a")
		batch := l.batch()
		cut(p)
		_, err := store.Apply(t.Context(), batch)
		require.Equal(t, trade.CommitUnknown, trade.ClassOf(err), "%v", err)
		require.EqualValues(t, 1, p.cuts.Load())

		// The server may still be ending the session that was cut off; its locks show when it has.
		positions, err := store.Positions(t.Context())
		require.NoError(t, err)
		span := batch.Spans[0]
		if happened {
			require.Equal(t, span.Next, positions[span.Partition].NextOffset)
		} else {
			require.Equal(t, span.From, positions[span.Partition].NextOffset)
		}
		applied, err := store.Apply(t.Context(), batch)
		if happened {
			require.Equal(t, trade.Fenced, trade.ClassOf(err), "%v", err)
		} else {
			require.NoError(t, err)
			require.Equal(t, 1, applied.Rows)
		}
		require.Equal(t, 1, l.db.count(t, "SELECT count(*) FROM trades"))
	}
	f(func(p *proxy) { p.cutRequest("Q\x00\x00\x00\x0bcommit\x00") }, false)
	f(func(p *proxy) { p.cutReply("COMMIT\x00") }, true)
}

// A connection that breaks anywhere before COMMIT leaves nothing.
func TestBrokenConnection(t *testing.T) {
	t.Parallel()
	f := func(cut func(p *proxy)) {
		t.Helper()
		l := newTopicLog(t)
		p := newProxy(t, l.db.url)
		l.add("T1", 1, "stored")
		l.apply()
		// A new pool prepares each statement again.
		l.store = NewStore(openPool(t, p.url, "writer", OpenWriter), StoreConfig{Topic: testTopic})
		l.add("T1", 1, "a")
		l.add("T2", 1, "a")
		cut(p)
		l.refused(t.Context(), trade.Unavailable)
		require.EqualValues(t, 1, p.cuts.Load())
	}
	f(func(p *proxy) { p.cutRequest("begin isolation level") })
	f(func(p *proxy) { p.cutReply("UPDATE 1\x00") }) // of the position
	f(func(p *proxy) { p.cutRequest("COPY trades") })
	f(func(p *proxy) { p.cutReply("COPY 1\x00") })
	f(func(p *proxy) { p.cutRequest("UPDATE trades") })
	f(func(p *proxy) { p.cutRequest("COPY journal") })
	f(func(p *proxy) { p.cutReply("COPY 2\x00") })
}

// Open whose answer is lost, before or after the entry became durable: the error says unknown, the entry tells.
func TestUnknownOpen(t *testing.T) {
	t.Parallel()
	f := func(cut func(p *proxy), happened bool) {
		t.Helper()
		d := newDatabase(t)
		p := newProxy(t, d.url)
		requests := NewRequestStore(openPool(t, p.url, "reads", Open))
		r := (&topicLog{t: t, db: d}).add("T1", 1, "a")
		_, err := requests.Get(t.Context(), r.ID)
		require.ErrorIs(t, err, trade.ErrNotFound, "connects")
		cut(p)
		errs := requests.Open(t.Context(), []*trade.Request{&r.Request})
		require.Len(t, errs, 1)
		require.False(t, errors.Is(errs[0], trade.ErrNotOpened), "%v", errs[0])
		require.EqualValues(t, 1, p.cuts.Load())
		_, err = requests.Get(t.Context(), r.ID)
		require.Equal(t, happened, err == nil, "%v", err)
	}
	f(func(p *proxy) { p.cutRequest("COPY requests") }, false)
	f(func(p *proxy) { p.cutReply("COPY 1\x00") }, true)
}
