package postgres

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

const oneDay = 24 * time.Hour

var week = trade.Retention{Outcomes: 7 * oneDay, DeadLetters: 30 * oneDay}

// days counts the partitions of a table, the default one left out.
func (d *testDatabase) days(t testing.TB, table string) int {
	t.Helper()
	days, err := partitions(t.Context(), d.reads, table)
	require.NoError(t, err)
	return len(days)
}

func TestMakeDays(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	m := NewMaintainer(d.reads)
	require.NoError(t, m.MakeDays(t.Context(), testNow))
	require.Equal(t, 9, d.days(t, "requests"))
	require.Equal(t, 9, d.days(t, "journal"))
	require.NoError(t, m.MakeDays(t.Context(), testNow), "nothing is missing")
	require.NoError(t, m.MakeDays(t.Context(), testNow.Add(oneDay)))
	require.Equal(t, 10, d.days(t, "journal"))
}

func TestMakeDaysInParallel(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	var maintainers sync.WaitGroup
	errs := make([]error, 3)
	for i := range errs {
		maintainers.Go(func() { errs[i] = NewMaintainer(d.writer).MakeDays(t.Context(), testNow) })
	}
	maintainers.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	require.Equal(t, 9, d.days(t, "journal"))
}

func TestRowsLandInTheirDay(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	require.NoError(t, NewMaintainer(l.db.reads).MakeDays(t.Context(), testNow))
	l.open(NewRequestStore(l.db.reads), "T1", 1, "a")
	l.apply()
	require.Equal(t, 1, l.db.count(t, "SELECT count(*) FROM journal_20260304"))
	require.Equal(t, 1, l.db.count(t, "SELECT count(*) FROM requests_20260304"))
}

// A day whose rows came before its partition stays without one; the others are made.
func TestMakeDaysWithStrays(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	requests := NewRequestStore(l.db.reads)
	r := l.open(requests, "T1", 1, "a")
	require.NoError(t, NewMaintainer(l.db.reads).MakeDays(t.Context(), testNow))
	require.Equal(t, 8, l.db.days(t, "requests"))
	require.Equal(t, 9, l.db.days(t, "journal"))
	l.apply()
	state, err := requests.Get(t.Context(), r.ID)
	require.NoError(t, err)
	require.Equal(t, trade.Success, state.Status)
}

// A maintainer that does not get its locks gives up, so that nobody queues behind it for long.
func TestMakeDaysGivesWay(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	tx, err := d.writer.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `LOCK TABLE journal IN ROW EXCLUSIVE MODE;
		LOCK TABLE journal_default IN ROW EXCLUSIVE MODE`)
	require.NoError(t, err)
	err = NewMaintainer(d.reads).MakeDays(t.Context(), testNow)
	require.ErrorContains(t, err, "cannot make day")
	require.Equal(t, trade.Unavailable, trade.ClassOf(err))
	require.NoError(t, tx.Rollback(t.Context()))
	require.NoError(t, NewMaintainer(d.reads).MakeDays(t.Context(), testNow))
}

// projectAll moves every cursor after what is decided.
func (l *topicLog) projectAll() {
	l.t.Helper()
	outcomes, err := l.store.Unprojected(l.t.Context(), allPartitions, 100_000)
	require.NoError(l.t, err)
	require.NoError(l.t, l.store.Projected(l.t.Context(), outcomes))
}

func TestSweepDropsOldDays(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	m, requests := NewMaintainer(l.db.reads), NewRequestStore(l.db.reads)
	require.NoError(t, m.MakeDays(t.Context(), testNow))
	decided := l.open(requests, "T1", 1, "a")
	l.apply()
	pending := l.open(requests, "T1", 2, "b") // its record is still in the backlog
	later := testNow.Add(7 * oneDay)

	swept, err := m.Sweep(t.Context(), later, week)
	require.NoError(t, err)
	require.Equal(t, trade.Swept{JournalDays: 1}, swept, "yesterday alone: a day goes when its last row is old enough")

	later = later.Add(oneDay)
	swept, err = m.Sweep(t.Context(), later, week)
	require.ErrorContains(t, err, "day 2026-03-04 stays: outcomes were not yet projected")
	require.Equal(t, trade.Swept{}, swept)

	l.projectAll()
	swept, err = m.Sweep(t.Context(), later, week)
	require.NoError(t, err)
	require.Equal(t, trade.Swept{JournalDays: 1}, swept)
	_, err = requests.Get(t.Context(), decided.ID)
	require.ErrorIs(t, err, trade.ErrNotFound)
	state, err := requests.Get(t.Context(), pending.ID)
	require.NoError(t, err)
	require.Equal(t, trade.Pending, state.Status, "a pending request outlives its day")
	require.Equal(t, 1, l.db.count(t, "SELECT count(*) FROM requests_default"))

	// Decided late it is kept for the retention from then on, in the default partition.
	l.store.cfg.Now = func() time.Time { return later }
	l.apply()
	l.projectAll()
	swept, err = m.Sweep(t.Context(), later.Add(6*oneDay), week)
	require.NoError(t, err)
	require.Zero(t, swept.JournalRows)
	state, err = requests.Get(t.Context(), pending.ID)
	require.NoError(t, err)
	require.Equal(t, trade.Success, state.Status)
	swept, err = m.Sweep(t.Context(), later.Add(8*oneDay), week)
	require.NoError(t, err)
	require.Equal(t, 1, swept.JournalRows)
	require.Equal(t, 1, swept.PendingRows)
	require.Zero(t, l.db.count(t, "SELECT count(*) FROM requests"))
	require.Zero(t, l.db.count(t, "SELECT count(*) FROM journal"))
	require.Equal(t, "b", l.db.book(t, "T1", 2), "trades stay")
}

// The request strayed, its journal row did not: both go at once, so it is never shown as PENDING again.
func TestSweepOfAStrayWhoseJournalRowHasADay(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	m, requests := NewMaintainer(l.db.reads), NewRequestStore(l.db.reads)
	r := l.open(requests, "T1", 1, "a")
	waiting := l.open(requests, "T1", 2, "a")
	wait := l.pending[1:]
	l.pending = l.pending[:1]
	require.NoError(t, m.MakeDays(t.Context(), testNow))
	_, err := l.store.Apply(t.Context(), l.batch())
	require.NoError(t, err)
	require.Len(t, wait, 1)
	l.projectAll()
	_, err = m.Sweep(t.Context(), testNow.Add(9*oneDay), week)
	require.NoError(t, err)
	_, err = requests.Get(t.Context(), r.ID)
	require.ErrorIs(t, err, trade.ErrNotFound)
	state, err := requests.Get(t.Context(), waiting.ID)
	require.NoError(t, err)
	require.Equal(t, trade.Pending, state.Status)
}

func TestSweepKeepsADayWithTooManyUndecided(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	m := NewMaintainer(d.reads)
	require.NoError(t, m.MakeDays(t.Context(), testNow))
	d.exec(t, `INSERT INTO requests SELECT $1, $1::timestamptz::date, 0, 1, gen_random_uuid(), 'T', NULL
		FROM generate_series(1, $2)`, testNow, maxMoved+1)
	swept, err := m.Sweep(t.Context(), testNow.Add(8*oneDay), week)
	require.ErrorContains(t, err, "day 2026-03-04 stays: more than 10000 requests are undecided")
	require.Equal(t, 1, swept.JournalDays, "the day before is not held up")
	require.Equal(t, maxMoved+1, d.count(t, "SELECT count(*) FROM requests"))
}

// fillJournal inserts n outcomes of partition 0, accepted at testNow.
func (d *testDatabase) fillJournal(t testing.TB, n int) {
	t.Helper()
	d.exec(t, `
		INSERT INTO journal (accepted_at, decided_at, accepted_on, generation, partition, "offset", request_id, outcome)
		SELECT $1, $1, $1::timestamptz::date, 1, 0, i, gen_random_uuid(), 'SUCCESS'
		FROM generate_series(0, $2::integer - 1) AS i`, testNow, n)
}

func TestSweepInSteps(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	const n = 2*sweepStep + 1
	d.fillJournal(t, n)
	d.exec(t, `INSERT INTO requests SELECT accepted_at, accepted_on, 0, 1, request_id, 'T', NULL FROM journal LIMIT 10`)
	d.exec(t, `INSERT INTO dead_letter SELECT i, $1, 0, gen_random_uuid(), NULL, 'R', 'D', NULL
		FROM generate_series(1, $2::integer) AS i`, testNow, n)
	d.exec(t, `UPDATE projection_cursor SET projected_offset = $1 WHERE partition = 0`, n-1)
	m := NewMaintainer(d.reads)

	swept, err := m.Sweep(t.Context(), testNow.Add(29*oneDay), week)
	require.NoError(t, err)
	require.Equal(t, n-1, swept.JournalRows, "the one that is not projected stays")
	require.Zero(t, swept.DeadLetters)
	swept, err = m.Sweep(t.Context(), testNow.Add(31*oneDay), week)
	require.NoError(t, err)
	require.Equal(t, n, swept.DeadLetters)
	require.Equal(t, 1, d.count(t, "SELECT count(*) FROM journal"))
}

func TestOneMaintainerSweeps(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	m := NewMaintainer(d.reads)
	require.NoError(t, m.MakeDays(t.Context(), testNow))
	other, err := d.writer.Acquire(t.Context())
	require.NoError(t, err)
	defer other.Release()
	_, err = other.Exec(t.Context(), "SELECT pg_advisory_lock($1)", sweepLock)
	require.NoError(t, err)
	swept, err := m.Sweep(t.Context(), testNow.Add(30*oneDay), week)
	require.NoError(t, err)
	require.Zero(t, swept)
	unlock(t.Context(), other, sweepLock)
	swept, err = m.Sweep(t.Context(), testNow.Add(30*oneDay), week)
	require.NoError(t, err)
	require.Equal(t, 9, swept.JournalDays)
}

func TestSweepWithoutRetention(t *testing.T) {
	t.Parallel()
	_, err := NewMaintainer(nil).Sweep(t.Context(), testNow, trade.Retention{})
	require.ErrorContains(t, err, "keeps nothing")
}

func TestMaintainerWithoutADatabase(t *testing.T) {
	m := NewMaintainer(openPool(t, unreachable, "reads", Open))
	require.Equal(t, trade.Unavailable, trade.ClassOf(m.MakeDays(t.Context(), testNow)))
	_, err := m.Sweep(t.Context(), testNow, week)
	require.ErrorContains(t, err, "cannot sweep")
}

// Days are made and dropped while the log is applied: nothing fails, nothing is lost.
func TestMaintainerUnderLoad(t *testing.T) {
	l := newTopicLog(t)
	m, requests := NewMaintainer(l.db.reads), NewRequestStore(l.db.reads)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		defer close(done)
		for day := 0; ctx.Err() == nil && day < 12; day++ {
			at := testNow.Add(time.Duration(day) * oneDay)
			if err := m.MakeDays(ctx, at); err != nil {
				done <- err
				return
			}
			if _, err := m.Sweep(ctx, at, week); err != nil && trade.ClassOf(err) != trade.Unavailable {
				done <- err
				return
			}
		}
	}()
	var ids []trade.RequestID
	for i := range 30 {
		ids = append(ids, l.open(requests, fmt.Sprintf("T%d", i), 1, "a").ID)
		l.apply()
	}
	require.NoError(t, <-done)
	cancel()
	for _, id := range ids {
		state, err := requests.Get(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, trade.Success, state.Status)
	}
}
