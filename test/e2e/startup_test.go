package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tradestore/test/stack"
)

// What keeps `tradestore dev` from starting is said in one line that names the flag to turn.
func TestDevCannotStart(t *testing.T) {
	t.Parallel()
	s := newDev(t, stack.Database(t))
	s.start(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	_, port, err := net.SplitHostPort(taken.Addr().String())
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))

	dir := dataDir(t) // for all of them: none gets far
	f := func(flag string, change ...string) {
		t.Helper()
		args := []string{"dev", "--listen", freeAddress(t), "--worker-listen", freeAddress(t), "--data-dir", dir,
			"--log-level", "error", "--log-format", "json"}
		for i := 0; i < len(change); i += 2 {
			args = set(args, change[i], change[i+1])
		}
		p := launch(t, "second", s.path, s.env, args...)
		require.NotZero(t, p.Exit(t), p.Tail())
		said := strings.TrimSpace(p.Output(t))
		require.Contains(t, said, flag)
		require.Equal(t, 0, strings.Count(said, "\n"), "more than one line:\n%s", said)
	}
	f("--data-dir", "--data-dir", s.flag("--data-dir"))
	f("--data-dir", "--data-dir", file)
	f("--data-dir", "--data-dir", filepath.Join(file, "below"))
	f("--listen", "--listen", taken.Addr().String())
	f("--worker-listen", "--worker-listen", taken.Addr().String())
	f("--kafka-port", "--kafka-port", port)
	require.True(t, answers(t, s.API+"/readyz"), "the first one is disturbed")
	s.stop(t)

	s.env = nil // with a database of its own
	f("--postgres-port", "--postgres-port", port)
}

// A second start on the same folder needs no download and no new database. What was stored is still there.
func TestDevStartsAgain(t *testing.T) {
	t.Parallel()
	s := newDev(t, "")
	s.start(t)
	s.stored(t, s.ledger.newTrade("AGAIN-1", 1))
	before := s.Database
	s.stop(t)
	s.start(t)
	require.Equal(t, before, s.Database, "another port or password")
	require.Len(t, s.versions(t, "AGAIN-1"), 1)
	s.stored(t, s.ledger.newTrade("AGAIN-1", 2))
	s.check(t)
	s.stop(t)
}

// flag returns the value of a flag of the stack's first process.
func (s *deployment) flag(name string) string {
	args := s.roles[0].args
	for i := range args[:len(args)-1] {
		if args[i] == name {
			return args[i+1]
		}
	}
	return ""
}

// set gives a flag another value, or adds it.
func set(args []string, flag, value string) []string {
	for i := range args {
		if args[i] == flag {
			args[i+1] = value
			return args
		}
	}
	return append(args, flag, value)
}
