package postgres

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// grow inserts journal rows and requests of testNow, in n statements of 3,000 rows each that run side by side.
func (d *testDatabase) grow(t testing.TB, n int) {
	t.Helper()
	var inserts sync.WaitGroup
	errs := make([]error, n)
	for i := range errs {
		inserts.Go(func() {
			_, errs[i] = d.reads.Exec(t.Context(), `
				WITH ids AS (SELECT gen_random_uuid() AS id, i FROM generate_series(1, 3000) AS i),
				opened AS (
					INSERT INTO requests SELECT $1, $1::timestamptz::date, 0, 1, id, 'T' || id, NULL FROM ids)
				INSERT INTO journal (accepted_at, decided_at, accepted_on, generation, partition, "offset", request_id,
					outcome, trade_id, version, counterparty_id, book_id, maturity_date, created_date)
				SELECT $1, $1, $1::timestamptz::date, 1, 0, i, id, 'SUCCESS', 'T' || id, 1, 'CP-1', 'BOOK-7', $1, $1 FROM ids`,
				testNow)
		})
	}
	inserts.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
}

// unsummarized counts the full ranges of testNow without a summary. To look is to summarize them.
func (d *testDatabase) unsummarized(t testing.TB) int {
	t.Helper()
	return d.count(t, `SELECT brin_summarize_new_values('journal_20260304_trade_id_idx')
		+ brin_summarize_new_values('requests_20260304_accepted_at_idx')`)
}

// Full ranges have a summary after each call, while rows are inserted faster than autovacuum summarizes.
func TestSummarize(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	m := NewMaintainer(d.writer)
	require.NoError(t, m.MakeDays(t.Context(), testNow))
	for range 2 {
		d.grow(t, 4)
		made, err := m.Summarize(t.Context())
		require.NoError(t, err)
		require.Positive(t, made)
		require.Zero(t, d.unsummarized(t))
		made, err = m.Summarize(t.Context())
		require.NoError(t, err)
		require.Zero(t, made)
	}
	// A table that somebody else has for long waits for a later call.
	d.grow(t, 4)
	rival := newRival(t, d, "LOCK TABLE requests_20260304 IN SHARE MODE")
	made, err := m.Summarize(t.Context())
	require.NoError(t, err)
	require.Positive(t, made)
	rival.rollback()
	made, err = m.Summarize(t.Context())
	require.NoError(t, err)
	require.Positive(t, made)
	require.Zero(t, d.unsummarized(t))
	// A day that is dropped is forgotten.
	_, err = m.Sweep(t.Context(), testNow.Add(30*oneDay), week)
	require.Error(t, err, "outcomes are not projected")
	d.exec(t, `UPDATE projection_cursor SET projected_offset = 100000`)
	_, err = m.Sweep(t.Context(), testNow.Add(30*oneDay), week)
	require.NoError(t, err)
	made, err = m.Summarize(t.Context())
	require.NoError(t, err)
	require.Zero(t, made)
	require.Len(t, m.summarized, 2, "those of the default partitions")
}

// One worker at a time makes the summaries.
func TestOneMaintainerSummarizes(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	m := NewMaintainer(d.reads)
	require.NoError(t, m.MakeDays(t.Context(), testNow))
	d.grow(t, 2)
	other, err := d.writer.Acquire(t.Context())
	require.NoError(t, err)
	defer other.Release()
	_, err = other.Exec(t.Context(), "SELECT pg_advisory_lock($1)", summarizeLock)
	require.NoError(t, err)
	made, err := m.Summarize(t.Context())
	require.NoError(t, err)
	require.Zero(t, made)
	unlock(t.Context(), other, summarizeLock)
	made, err = m.Summarize(t.Context())
	require.NoError(t, err)
	require.Positive(t, made)
}
