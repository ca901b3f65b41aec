package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A read whose context ends cancels its statement and keeps its connection: look-ups have a short time limit, and a
// slow database must not have to make a connection for each of them as well.
//
// Every other statement closes its connection, as pgx does by itself. A cancel request would do harm: a COMMIT that
// waits for the synchronous standby gives up waiting and reports success, although the standby may not have it. A
// closed connection leaves what is true: the result is not known (rules E4, C3).
const (
	cancelDelay = 10 * time.Millisecond  // a read that ends within it is not cancelled
	cancelLimit = 250 * time.Millisecond // after it without an answer the connection is closed as well
)

// readPool is a pool for statements that change nothing.
type readPool struct{ *pgxpool.Pool }

type readMark struct{}

// Query runs a read.
func (p readPool) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return p.Pool.Query(context.WithValue(ctx, readMark{}, true), sql, args...)
}

// QueryRow runs a read of one row.
func (p readPool) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return p.Pool.QueryRow(context.WithValue(ctx, readMark{}, true), sql, args...)
}

// watchCalls makes the connections of a pool behave as above.
func watchCalls(pc *pgxpool.Config) {
	pc.ConnConfig.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &callEnd{conn: conn}
	}
	pc.PrepareConn = func(_ context.Context, conn *pgx.Conn) (bool, error) {
		_, spoiled := conn.PgConn().CustomData()[spoiledKey]
		return !spoiled, nil
	}
}

// spoiledKey marks a connection that no statement may use any more.
const spoiledKey = "tradestore spoiled"

// callEnd acts when the context of a statement ends before the statement. It implements ctxwatch.Handler.
type callEnd struct {
	conn      *pgconn.PgConn
	over      chan struct{} // closed when the statement is over; nil if it is not a read
	cancelled chan bool     // whether no cancel request can arrive any more
}

// HandleCancel is called when the context ends.
func (h *callEnd) HandleCancel(ctx context.Context) {
	if ctx.Value(readMark{}) == nil {
		_ = h.conn.Conn().SetDeadline(time.Unix(1, 0))
		return
	}
	limit := time.Now().Add(cancelDelay + cancelLimit)
	_ = h.conn.Conn().SetDeadline(limit)
	h.over, h.cancelled = make(chan struct{}), make(chan bool, 1)
	go func() { h.cancelled <- h.cancel(limit) }()
}

// cancel sends a cancel request, unless the statement is over first. It returns false if it is not known whether the
// request will arrive. The server signals the session before it closes the connection of the request, and a session
// without a statement ignores the signal: after that the next statement is safe.
func (h *callEnd) cancel(limit time.Time) bool {
	select {
	case <-h.over:
		return true
	case <-time.After(cancelDelay):
	}
	ctx, cancel := context.WithDeadline(context.Background(), limit)
	defer cancel()
	return h.conn.CancelRequest(ctx) == nil && ctx.Err() == nil
}

// HandleUnwatchAfterCancel is called after HandleCancel, when the statement is over.
func (h *callEnd) HandleUnwatchAfterCancel() {
	_ = h.conn.Conn().SetDeadline(time.Time{})
	if h.over == nil {
		return
	}
	close(h.over)
	if !<-h.cancelled {
		h.conn.CustomData()[spoiledKey] = true
	}
	h.over = nil
}
