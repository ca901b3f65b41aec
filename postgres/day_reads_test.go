package postgres

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

// makeDays makes the partitions of n days, up to a week after testNow.
func (d *testDatabase) makeDays(t testing.TB, n int) {
	t.Helper()
	m := NewMaintainer(d.reads)
	for ago := n - daysAhead - daysBack - 1; ago >= 0; ago-- {
		require.NoError(t, m.MakeDays(t.Context(), testNow.Add(-time.Duration(ago)*oneDay)))
	}
	require.Equal(t, n, d.days(t, "journal"))
}

// lockedBy returns the tables that a session has locked or waits for, and waits until it waits for one.
func (d *testDatabase) lockedBy(t testing.TB, application string) []string {
	t.Helper()
	const sessions = `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1`
	require.Eventually(t, func() bool {
		return d.count(t, `SELECT count(*) FROM pg_locks WHERE NOT granted AND pid IN (`+sessions+`)`, application) > 0
	}, 20*time.Second, time.Millisecond)
	return d.lines(t, `SELECT relation::regclass::text AS name FROM pg_locks JOIN pg_class AS c ON c.oid = relation
		WHERE locktype = 'relation' AND c.relkind IN ('r', 'p') AND pid IN (`+sessions+`) ORDER BY name`, application)
}

// A read of a request opens the tables of its day, however many days there are.
func TestReadLocksItsDayAlone(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	l.db.makeDays(t, 32)
	reads := NewRequestStore(openPool(t, l.db.url, "status reads", Open))
	plain, keyed := l.open(reads, "T1", 1, "a"), l.keyed(reads, "key")
	f := func(blocked string, want []string, read func() error) {
		t.Helper()
		require.NoError(t, read(), "the plan is made")
		rival := newRival(t, l.db, "LOCK TABLE "+blocked+" IN ACCESS EXCLUSIVE MODE")
		done := make(chan error, 1)
		go func() { done <- read() }()
		got := l.db.lockedBy(t, "status reads")
		rival.rollback()
		require.NoError(t, <-done)
		require.Equal(t, want, got)
	}
	both := []string{"journal_20260304", "requests_20260304"}
	f(both[1], both, func() error {
		_, err := reads.Get(t.Context(), plain.ID)
		return err
	})
	f(both[1], both, func() error {
		_, err := reads.Ended(t.Context(), []trade.RequestID{plain.ID})
		return err
	})
	f(both[0], []string{"idempotency", both[0]}, func() error {
		_, err := reads.GetKeyed(t.Context(), []trade.RequestID{keyed.ID})
		return err
	})
}

// A day that is dropped, or never had tables, is read from the partitioned tables, with the same results.
func TestReadOfADayThatIsDropped(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	m, requests := NewMaintainer(l.db.reads), NewRequestStore(l.db.reads)
	require.NoError(t, m.MakeDays(t.Context(), testNow))
	plain, keyed := l.open(requests, "T1", 1, "a"), l.keyed(requests, "decided")
	l.apply()
	pending, pendingKey := l.open(requests, "T1", 2, "b"), l.keyed(requests, "pending")
	l.projectAll()
	ids := []trade.RequestID{plain.ID, keyed.ID, pending.ID, pendingKey.ID}

	read := func(wantKnown, wantEnded, wantKeys int) {
		t.Helper()
		require.Equal(t, wantKnown, len(requests.days.days))
		for i, id := range ids {
			state, err := requests.Get(t.Context(), id)
			switch want := trade.Success; {
			case i >= 2:
				want = trade.Pending
				fallthrough
			case wantEnded > 0:
				require.NoError(t, err)
				require.Equal(t, want, state.Status)
			default:
				require.ErrorIs(t, err, trade.ErrNotFound)
			}
		}
		ended, err := requests.Ended(t.Context(), ids)
		require.NoError(t, err)
		require.Len(t, ended, wantEnded)
		keys, err := requests.GetKeyed(t.Context(), ids)
		require.NoError(t, err)
		require.Len(t, keys, wantKeys)
	}
	read(0, 2, 2)
	read(9, 2, 2)
	_, err := m.Sweep(t.Context(), testNow.Add(8*oneDay), week)
	require.NoError(t, err)
	read(9, 0, 1)
	read(8, 0, 1)
	_, err = m.Sweep(t.Context(), testNow.Add(30*oneDay), week)
	require.NoError(t, err)
	read(8, 0, 1)
	fresh := l.open(requests, "T1", 3, "c") // of a day without tables
	ids = append(ids, fresh.ID)
	read(8, 0, 1)
}

// A made-up id whose day has no tables is no error in the database, and costs a look for days once in a while.
func TestReadOfAnUnknownDay(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	require.NoError(t, NewMaintainer(d.reads).MakeDays(t.Context(), testNow))
	requests := NewRequestStore(d.reads)
	for ago := range 50 {
		_, err := requests.Get(t.Context(), trade.NewRequestID(testNow.Add(-time.Duration(ago)*oneDay)))
		require.ErrorIs(t, err, trade.ErrNotFound)
	}
	require.Len(t, requests.days.days, 9)
}
