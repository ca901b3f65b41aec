package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"tradestore/internal/dev/embedded"
	"tradestore/test/stack"
)

// The database process dies, again and again, and is started again, by `tradestore dev` or by whoever looks after it.
// Readiness says so meanwhile.
func TestDatabaseDies(t *testing.T) {
	t.Parallel()
	t.Run(onDev, func(t *testing.T) { t.Parallel(); testDatabaseDies(t, newDev(t, "")) })
	t.Run(onReal, func(t *testing.T) {
		t.Parallel()
		testDatabaseDies(t, newRoles(t, realStoresWith(t, stack.OwnPostgres(t).URL()), 2, 2))
	})
}

func testDatabaseDies(t *testing.T, s *deployment) {
	t.Helper()
	s.start(t)
	require.NoError(t, InstallAudit(t.Context(), s.Database))
	for range scale(1, 20) {
		stop := s.background(t, load{clients: 16, hot: 100})
		s.accepted(t, 100)
		kill := s.postgresKiller(t)
		require.True(t, poll(t, drainLimit, func() bool {
			kill()
			return !answers(t, s.API+"/readyz") // probes are shared for a moment, so a single death may pass unseen
		}), "readiness hides that the database is down")
		require.Equal(t, http.StatusOK, s.get(t, "/livez").Status)
		s.readyAgain(t)
		s.accepted(t, 100)
		stop()
		s.check(t)
	}
	s.stop(t)
}

// readyAgain waits until every process says that it is ready.
func (s *deployment) readyAgain(t *testing.T) {
	t.Helper()
	for _, r := range s.roles {
		for _, url := range r.ready {
			require.True(t, poll(t, drainLimit, func() bool { return answers(t, url) }), "%s does not get ready again:\n%s",
				r.name, r.proc.Tail())
		}
	}
}

// postgresKiller returns a function that ends the embedded server as kill -9 does, by the pid that it wrote down in its
// own data folder, each server once.
func (s *deployment) postgresKiller(t *testing.T) (kill func()) {
	t.Helper()
	var folder string
	require.NoError(t, s.connect(t).QueryRow(t.Context(), `SHOW data_directory`).Scan(&folder))
	killed := map[int]bool{}
	return func() {
		note, err := os.ReadFile(filepath.Join(folder, "postmaster.pid"))
		if err != nil {
			return // between two servers
		}
		first, _, _ := strings.Cut(string(note), "\n")
		if pid, err := strconv.Atoi(first); err == nil && pid > 0 && !killed[pid] {
			killed[pid] = true
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				require.ErrorIs(t, err, syscall.ESRCH) // it ended by itself: the one before is still being cleaned up
			}
		}
	}
}

// The database of the user's own is down for a while: each answer is a 202 that holds or an honest 503.
func TestDatabaseDownThenUp(t *testing.T) {
	t.Parallel()
	t.Run(onDev, func(t *testing.T) {
		t.Parallel()
		server := newSwitched(t).on(t)
		testDatabaseDownThenUp(t, newDev(t, server.URL()), server)
	})
	t.Run(onReal, func(t *testing.T) {
		t.Parallel()
		server := newSwitched(t).on(t)
		testDatabaseDownThenUp(t, newRoles(t, realStoresWith(t, server.URL()), 2, 2), server)
	})
}

func testDatabaseDownThenUp(t *testing.T, s *deployment, server *switched) {
	t.Helper()
	s.start(t)
	require.NoError(t, InstallAudit(t.Context(), s.Database))
	for range scale(1, 20) {
		stop := s.background(t, load{clients: 16, hot: 100})
		s.accepted(t, 100)
		server.Stop()
		s.refusing(t, 50)
		s.get(t, "/api/v1/trades").refused(t, http.StatusServiceUnavailable, "STORE_UNAVAILABLE")
		require.True(t, poll(t, drainLimit, func() bool { return !answers(t, s.API+"/api/v1/health") }),
			"health hides that the database is down")
		server.on(t)
		s.accepted(t, 100)
		stop()
		s.answered(t, http.StatusAccepted, http.StatusBadRequest, http.StatusServiceUnavailable)
		s.check(t)
	}
	s.stop(t)
}

// switched is a database server that is switched off and on again, with the same data at the same address.
type switched struct {
	*embedded.Postgres
	dir  string
	port int
}

// newSwitched returns one that is off.
func newSwitched(t *testing.T) *switched {
	t.Helper()
	dir, err := stack.Dir()
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	port, err := strconv.Atoi(strings.TrimPrefix(freeAddress(t), "127.0.0.1:"))
	require.NoError(t, err)
	return &switched{dir: dir, port: port}
}

func (s *switched) on(t *testing.T) *switched {
	t.Helper()
	server, err := embedded.Start(t.Context(),
		embedded.Config{Dir: s.dir, Port: s.port, SharedBuffers: "32MB", Log: zerolog.Nop()})
	require.NoError(t, err)
	t.Cleanup(server.Stop)
	s.Postgres = server
	return s
}
