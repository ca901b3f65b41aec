package trade

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestClassOf(t *testing.T) {
	t.Parallel()
	f := func(err error, want Class) {
		t.Helper()
		require.Equal(t, want, ClassOf(err))
	}
	f(nil, Unavailable)
	f(io.EOF, Unavailable)
	f(context.DeadlineExceeded, Unavailable)
	f(Classed(Unavailable, "x"), Unavailable)
	f(Classed(Repeatable, "x"), Repeatable)
	f(Classed(BadData, "x"), BadData)
	f(Classed(CommitUnknown, "x"), CommitUnknown)
	f(Classed(Fenced, "x"), Fenced)
	f(Classed(Broken, "x"), Broken)
	f(fmt.Errorf("cannot apply: %w", Classed(Fenced, "x")), Fenced)
	f(errors.Join(io.EOF, Classed(Broken, "x")), Broken)
	f(Classed(Fenced, "outer: %w", Classed(Broken, "inner")), Fenced)
	f(ErrNotFound, Unavailable)
}

func TestClassedKeepsTheCause(t *testing.T) {
	t.Parallel()
	err := Classed(Repeatable, "cannot store batch of %d trades: %w", 512, io.ErrUnexpectedEOF)
	require.EqualError(t, err, "cannot store batch of 512 trades: unexpected EOF")
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

func TestClassString(t *testing.T) {
	t.Parallel()
	f := func(c Class, want string) {
		t.Helper()
		require.Equal(t, want, c.String())
	}
	f(Unavailable, "unavailable")
	f(Repeatable, "repeatable")
	f(BadData, "bad_data")
	f(CommitUnknown, "commit_unknown")
	f(Fenced, "fenced")
	f(Broken, "broken")
	f(Broken+1, "unknown")
	f(255, "unknown")
}
