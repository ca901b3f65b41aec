package postgres

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

// smallPool returns a pool of two connections.
func smallPool(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := Open(t.Context(), Config{URL: url, ApplicationName: "small", MaxConns: 2}, prometheus.NewRegistry())
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// isCancelled wants a call to end with its context.
func isCancelled(t *testing.T, call func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	require.Error(t, call(ctx))
}

// A read that its caller gives up costs neither a connection nor a session that goes on without a client.
func TestCancelledReadKeepsItsConnection(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	require.NoError(t, NewMaintainer(l.db.reads).MakeDays(t.Context(), testNow))
	r := l.open(NewRequestStore(l.db.reads), "T1", 7, "a")
	l.apply()
	pool := smallPool(t, l.db.url)
	requests, reader := NewRequestStore(pool), NewReader(pool)
	reads := map[string]func(ctx context.Context) error{
		"status": func(ctx context.Context) error {
			state, err := requests.Get(ctx, r.ID)
			if err == nil {
				require.Equal(t, trade.Success, state.Status)
			}
			return err
		},
		"look-up": func(ctx context.Context) error {
			found, err := reader.MaxVersions(ctx, []string{"T1"})
			if err == nil {
				require.Equal(t, map[string]int32{"T1": 7}, found)
			}
			return err
		},
	}
	for _, read := range reads {
		require.NoError(t, read(t.Context()))
	}
	rival := newRival(t, l.db, "LOCK TABLE trades, journal_20260304 IN ACCESS EXCLUSIVE MODE")
	for range 10 {
		for _, read := range reads {
			isCancelled(t, read)
		}
	}
	const sessions = `SELECT count(*) FROM pg_stat_activity
		WHERE datname = current_database() AND application_name = 'small'`
	require.LessOrEqual(t, l.db.count(t, sessions), 2)
	rival.rollback()
	for range 10 {
		for _, read := range reads {
			require.NoError(t, read(t.Context()))
		}
	}
	require.LessOrEqual(t, pool.Stat().NewConnsCount(), int64(2))
}

// A read of one row keeps its connection as well.
func TestCancelledReadOfOneRowKeepsItsConnection(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	pool := smallPool(t, d.url)
	reader := NewReader(pool)
	rival := newRival(t, d, "LOCK TABLE trades IN ACCESS EXCLUSIVE MODE")
	for range 10 {
		isCancelled(t, func(ctx context.Context) error {
			var rows int
			return reader.pool.QueryRow(ctx, `SELECT count(*) FROM trades`).Scan(&rows)
		})
	}
	rival.rollback()
	require.Less(t, pool.Stat().NewConnsCount(), int64(5), "connections for ten reads")
}

// A cancel request that comes when its read is over does not hit the next statement.
func TestCancelRequestHitsNoOtherStatement(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	pool, err := Open(t.Context(), Config{URL: d.url, ApplicationName: "one", MaxConns: 1}, prometheus.NewRegistry())
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	ended := 0
	for i := range 200 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		var rows pgx.Rows
		if rows, err = (readPool{pool}).Query(ctx, "SELECT pg_sleep($1)", float64(i%20)/1000); err == nil {
			rows.Close()
			err = rows.Err()
		}
		cancel()
		if err != nil {
			ended++
		}
		_, err = pool.Exec(t.Context(), "SELECT 1")
		require.NoError(t, err)
	}
	t.Logf("%d of 200 reads were given up", ended)
}

// A connection is given up if nobody knows whether the cancel request arrives later, and hits the next statement.
func TestConnectionOfAReadThatIsNotCancelled(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	p := newProxy(t, d.url)
	reader := NewReader(smallPool(t, p.url))
	read := func(ctx context.Context) error {
		_, err := reader.MaxVersions(ctx, []string{"T1"})
		return err
	}
	require.NoError(t, read(t.Context()))
	server := *p.target.Load()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = silent.Close() }()
	p.to(silent.Addr().String())
	rival := newRival(t, d, "LOCK TABLE trades IN ACCESS EXCLUSIVE MODE")
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		defer cancel()
		done <- read(ctx)
	}()
	request, err := silent.Accept() // the cancel request, which nobody answers
	require.NoError(t, err)
	defer func() { _ = request.Close() }()
	rival.rollback() // the read ends well, or by the time limit if this is slow
	<-done
	p.to(server)
	require.NoError(t, read(t.Context()))
	require.Equal(t, int64(2), reader.pool.Stat().NewConnsCount())
}

// A write that its caller gives up closes the connection: nobody waits for an answer that would come too late.
func TestCancelledWriteClosesItsConnection(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	pool := smallPool(t, d.url)
	requests := NewRequestStore(pool)
	l := &topicLog{t: t, db: d}
	open := func(ctx context.Context) error {
		r := l.add("T1", 1, "a")
		if errs := requests.Open(ctx, []*trade.Request{&r.Request}); errs != nil {
			require.NotErrorIs(t, errs[0], trade.ErrNotOpened, "nobody knows")
			return errs[0]
		}
		return nil
	}
	require.NoError(t, open(t.Context()))
	rival := newRival(t, d, "LOCK TABLE requests_default IN ACCESS EXCLUSIVE MODE")
	isCancelled(t, open)
	rival.rollback()
	require.NoError(t, open(t.Context()))
	require.Equal(t, int64(2), pool.Stat().NewConnsCount())
}
