package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

func TestClassify(t *testing.T) {
	t.Parallel()
	f := func(code string, want trade.Class) {
		t.Helper()
		err := fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: code, ConstraintName: "named"})
		require.Equal(t, want, classify(err), code)
	}
	f("22001", trade.BadData) // value too long
	f("22003", trade.BadData) // number out of range
	f("22021", trade.BadData) // bytes that are no text in this encoding
	f("22P03", trade.BadData) // malformed binary value
	f("23502", trade.BadData) // NULL
	f("23503", trade.BadData) // foreign key
	f("23514", trade.BadData) // a named CHECK constraint
	f("23P01", trade.BadData) // exclusion

	f("23505", trade.Repeatable) // unique key
	f("40001", trade.Repeatable) // serialization failure
	f("40P01", trade.Repeatable) // deadlock

	f("21000", trade.Broken) // equal keys in one upsert
	f("42501", trade.Broken) // missing privilege
	f("42601", trade.Broken) // syntax
	f("42703", trade.Broken) // undefined column
	f("42P01", trade.Broken) // undefined table

	f("08006", trade.Unavailable) // connection failure
	f("25006", trade.Unavailable) // read-only: a replica, or a server that was demoted
	f("25P03", trade.Unavailable) // idle in transaction for too long
	f("28P01", trade.Unavailable) // wrong password: may be under rotation
	f("3D000", trade.Unavailable) // no such database: may be under restore
	f("40003", trade.Unavailable) // completion unknown
	f("53100", trade.Unavailable) // disk full
	f("53300", trade.Unavailable) // too many connections
	f("54000", trade.Unavailable) // program limit
	f("55P03", trade.Unavailable) // lock not available
	f("57014", trade.Unavailable) // statement time limit
	f("57P01", trade.Unavailable) // shut down by an administrator
	f("57P03", trade.Unavailable) // starting up
	f("58030", trade.Unavailable) // I/O error
	f("XX000", trade.Unavailable) // internal error
	f("P0001", trade.Unavailable) // raised by a trigger
	f("ZZZZZ", trade.Unavailable) // unknown
	f("", trade.Unavailable)
	f("2", trade.Unavailable)
}

func TestClassifyWhatIsNoCode(t *testing.T) {
	t.Parallel()
	noPartition := &pgconn.PgError{Code: "23514"}
	require.Equal(t, trade.Broken, classify(noPartition), "no partition takes the row")
	f := func(err error) {
		t.Helper()
		require.Equal(t, trade.Unavailable, classify(err))
	}
	f(context.DeadlineExceeded)
	f(context.Canceled)
	f(io.ErrUnexpectedEOF)
	f(errors.New("unheard of"))
}

func TestRefused(t *testing.T) {
	t.Parallel()
	f := func(err error, want bool) {
		t.Helper()
		require.Equal(t, want, refused(err))
	}
	f(&pgconn.PgError{Code: "23505", SeverityUnlocalized: "ERROR"}, true)
	f(&pgconn.PgError{Code: "57P01", SeverityUnlocalized: "FATAL"}, false)
	f(&pgconn.PgError{Code: "XX000", SeverityUnlocalized: "PANIC"}, false)
	f(io.ErrUnexpectedEOF, false)
	f(context.DeadlineExceeded, false)
}
