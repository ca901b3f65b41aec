package postgres

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"tradestore/migrations"
	"tradestore/trade"
)

// nextRelease returns the migrations of this build and further ones.
func nextRelease(t testing.TB, further ...string) fs.FS {
	t.Helper()
	files := fstest.MapFS{}
	names, err := fs.Glob(migrations.FS, "*.sql")
	require.NoError(t, err)
	for _, name := range names {
		text, err := fs.ReadFile(migrations.FS, name)
		require.NoError(t, err)
		files[name] = &fstest.MapFile{Data: text}
	}
	for i, sql := range further {
		files[fmt.Sprintf("%03d_next.sql", len(names)+1+i)] = &fstest.MapFile{Data: []byte(sql)}
	}
	return files
}

// addRequest inserts a PENDING entry as the running release does.
func (d *testDatabase) addRequest(ctx context.Context) error {
	now := time.Now()
	_, err := d.reads.Exec(ctx, `INSERT INTO requests (accepted_at, accepted_on, partition, version, request_id, trade_id)
		VALUES ($1, $2, 0, 1, $3, 'T')`, now, trade.DateOf(now).Time(), trade.NewRequestID(now))
	return err
}

// events is a log that counts its lines.
type events struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

func (e *events) Write(line []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lines.Write(line)
}

func (e *events) count(text string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Count(e.lines.String(), text)
}

// A migration that finds its table in use lets the running release work: it gives up after a moment and tries again,
// until the long reader is through.
func TestAMigrationWaitsPolitely(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	reader, err := pgx.Connect(t.Context(), d.url)
	require.NoError(t, err)
	defer func() { _ = reader.Close(context.Background()) }()
	_, err = reader.Exec(t.Context(), "BEGIN; SELECT count(*) FROM requests")
	require.NoError(t, err)

	var log events
	migrated := make(chan error, 1)
	go func() {
		ctx := zerolog.New(&log).WithContext(t.Context())
		migrated <- migrateWith(ctx, d.url, nextRelease(t, "ALTER TABLE requests ADD COLUMN note text"))
	}()
	var inserted atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for d.addRequest(ctx) == nil {
				inserted.Add(1)
			}
		})
	}
	defer writers.Wait()
	defer stop()
	for tries := 1; tries <= 2; tries++ {
		require.Eventually(t, func() bool { return log.count("another session holds a lock") >= tries }, time.Minute,
			10*time.Millisecond, "the migration waits for the lock, and everybody behind it")
		before := inserted.Load()
		require.Eventually(t, func() bool { return inserted.Load() > before+20 }, time.Minute, time.Millisecond)
	}
	require.Empty(t, migrated)
	_, err = reader.Exec(t.Context(), "COMMIT")
	require.NoError(t, err)
	require.NoError(t, <-migrated)
	require.Zero(t, d.count(t, "SELECT count(note) FROM requests"))
	require.Equal(t, int(migrations.Version)+1, d.count(t, "SELECT version FROM schema_version"))
}

// The index of a partitioned table is built for one day after the other while all of them are written, goes on after an
// interruption, and days that come later have it.
func TestAnIndexIsBuiltDayByDay(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	keeper := NewMaintainer(d.reads)
	require.NoError(t, keeper.MakeDays(t.Context(), time.Now()))
	require.NoError(t, d.addRequest(t.Context()))
	today := dayTable("requests", trade.DateOf(time.Now()))
	// What a run left that was killed.
	d.exec(t, fmt.Sprintf("CREATE INDEX %s_requests_by_trade ON %[1]s (version)", today))
	open, err := d.reads.Begin(t.Context()) // the index of this day waits for it
	require.NoError(t, err)
	defer func() { _ = open.Rollback(context.Background()) }()
	_, err = open.Exec(t.Context(), fmt.Sprintf(`INSERT INTO %s
		SELECT accepted_at, accepted_on, 1, 1, gen_random_uuid(), 'T' FROM %[1]s`, today))
	require.NoError(t, err)

	migrated := make(chan error, 1)
	go func() {
		migrated <- migrateWith(t.Context(), d.url,
			nextRelease(t, "CREATE INDEX requests_by_trade ON ONLY requests (trade_id)"))
	}()
	const waiting = `SELECT count(*) FROM pg_stat_activity
		WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%INDEX CONCURRENTLY%'`
	require.Eventually(t, func() bool { return d.count(t, waiting) == 1 }, time.Minute, 10*time.Millisecond)
	for range 20 {
		require.NoError(t, d.addRequest(t.Context()), "writers do not wait for the index")
	}
	require.NoError(t, open.Commit(t.Context()))
	require.NoError(t, <-migrated)
	require.NoError(t, keeper.MakeDays(t.Context(), time.Now().Add(48*time.Hour)))

	const without = `SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = 'requests'::regclass
		AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = inhrelid AND indisvalid
			AND pg_get_indexdef(indexrelid) LIKE '%USING btree (trade_id)')`
	require.Empty(t, d.lines(t, without))
	require.Equal(t, 1, d.count(t,
		"SELECT count(*) FROM pg_index WHERE indexrelid = 'requests_by_trade'::regclass AND indisvalid"))
}
