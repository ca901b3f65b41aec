package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"tradestore/dev/embedded"
	"tradestore/teststack"
)

// kill -9 of everything at a random moment under load, again and again on one data folder. The database and the broker
// go down with it.
func TestKilledUnderLoad(t *testing.T) {
	s := newDev(t, "")
	s.start(t)
	require.NoError(t, InstallAudit(t.Context(), s.Database))
	for range scale(3, 50) {
		stop := s.background(t, load{clients: 16, hot: 100})
		s.accepted(t, 20+rand.IntN(300))
		s.kill()
		s.start(t)
		s.accepted(t, 20)
		stop()
		s.check(t)
	}
	s.stop(t)
}

// The process kills itself at each line where a crash could leave half of something behind.
func TestKilledAtFailpoints(t *testing.T) {
	for _, point := range []string{
		"afterPending", "beforeProduce", "afterAckBefore202", // server
		"afterPoll", "afterCAS", "afterCopy", "beforeCommit", "afterCommit", "beforeGroupCommit", // worker, applying
		"beforeStatus", "afterSettleBeforeCursor", // worker, settling
	} {
		t.Run(point, func(t *testing.T) { testKilledAt(t, point) })
	}
}

func testKilledAt(t *testing.T, point string) {
	t.Helper()
	s := newDev(t, teststack.Database(t))
	s.path = breakingBinary(t)
	for range scale(1, 100) {
		// In a later round the backlog of the round before may reach the line before the process is ready.
		doomed := s.launch(t, fmt.Sprintf("TRADESTORE_FAILPOINT=%s:%d", point, 1+rand.IntN(8)))[0]
		if doomed.awaitReady(t) {
			s.learn(t)
			require.NoError(t, InstallAudit(t.Context(), s.Database))
		}
		stop := s.background(t, load{clients: 8, hot: 50})
		doomed.proc.exit(t)
		died := doomed.proc.cmd.ProcessState.Sys().(syscall.WaitStatus)
		require.Equal(t, syscall.SIGKILL, died.Signal(), "%s", doomed.proc.tail(t))
		s.start(t)
		s.accepted(t, 20)
		stop()
		s.check(t)
		s.kill()
	}
}

// SIGTERM under load: whoever got an answer got a good one, and the exit code is 0.
func TestTerminatedUnderLoad(t *testing.T) {
	onEach(t, func(t *testing.T, s *stack) {
		s.start(t)
		for range scale(2, 50) {
			stop := s.background(t, load{clients: 16, hot: 100})
			s.accepted(t, 20+rand.IntN(300))
			s.stop(t)
			stop()
			s.onlyCloses(t)
			s.start(t)
			s.check(t)
		}
		s.stop(t)
	})
}

// onlyCloses expects that whoever was not answered as usual saw a closed connection and nothing else.
func (s *stack) onlyCloses(t *testing.T) {
	t.Helper()
	answers := s.ledger.Count()
	for status := range answers {
		require.Contains(t, []int{0, http.StatusAccepted, http.StatusBadRequest}, status, "%v", answers)
	}
}

// The database process dies, again and again: it is started again, and readiness says so meanwhile.
func TestDatabaseDies(t *testing.T) {
	s := newDev(t, "")
	s.start(t)
	for range scale(1, 20) {
		stop := s.background(t, load{clients: 16, hot: 100})
		s.accepted(t, 100)
		kill := s.postgresKiller(t)
		require.True(t, poll(t, drainLimit, func() bool {
			kill()
			return !answers(t, s.API+"/readyz") // probes are shared for a moment, so a single death may pass unseen
		}), "readiness hides that the database is down")
		require.True(t, answers(t, s.API+"/livez"))
		require.True(t, poll(t, drainLimit, func() bool { return answers(t, s.API+"/readyz") }), "the database does not come back")
		s.accepted(t, 100)
		stop()
		s.check(t)
	}
	s.stop(t)
}

// postgresKiller returns a function that ends the embedded server as kill -9 does, by the pid that it wrote down in its
// own data folder, each server once.
func (s *stack) postgresKiller(t *testing.T) (kill func()) {
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
	dir, err := teststack.Dir()
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	port, err := strconv.Atoi(strings.TrimPrefix(freeAddress(t), "127.0.0.1:"))
	require.NoError(t, err)
	start := func() *embedded.Postgres {
		server, err := embedded.Start(t.Context(), embedded.Config{Dir: dir, Port: port, SharedBuffers: "32MB", Log: zerolog.Nop()})
		require.NoError(t, err)
		t.Cleanup(server.Stop)
		return server
	}
	server := start()
	s := newDev(t, server.URL())
	s.start(t)
	for range scale(1, 20) {
		stop := s.background(t, load{clients: 16, hot: 100})
		s.accepted(t, 100)
		server.Stop()
		refused := s.ledger.Count()[http.StatusServiceUnavailable]
		require.True(t, poll(t, drainLimit, func() bool { return s.ledger.Count()[http.StatusServiceUnavailable] > refused+50 }), "%v", s.ledger.Count())
		s.get(t, "/api/v1/trades").refused(t, http.StatusServiceUnavailable, "STORE_UNAVAILABLE")
		require.True(t, poll(t, drainLimit, func() bool { return !answers(t, s.API+"/api/v1/health") }), "health hides that the database is down")
		server = start()
		s.accepted(t, 100)
		stop()
		for status := range s.ledger.Count() {
			require.Contains(t, []int{http.StatusAccepted, http.StatusBadRequest, http.StatusServiceUnavailable}, status, "%v", s.ledger.Count())
		}
		s.check(t)
	}
	s.stop(t)
}

// A worker is frozen until the other has taken its partitions over, and thawed in the middle of what it was doing: its
// position has moved on without it, so it changes nothing (A1). Then it is killed.
func TestWorkerFrozenThenKilled(t *testing.T) {
	s := newRoles(t, realStores(t), 2, 2)
	s.env = append(s.env, handOver...)
	s.start(t)
	require.NoError(t, InstallAudit(t.Context(), s.Database))
	frozen := s.named("worker1").cmd.Process
	for range scale(1, 20) {
		s.balanced(t, 4)
		stop := s.background(t, load{clients: 16, hot: 100})
		s.accepted(t, 100)
		require.NoError(t, frozen.Signal(syscall.SIGSTOP))
		s.accepted(t, 100)
		stop()
		s.drained(t) // by the other one, from where the frozen one stood
		stop = s.background(t, load{clients: 16, hot: 100})
		s.accepted(t, 100)
		require.NoError(t, frozen.Signal(syscall.SIGCONT))
		s.accepted(t, 300)
		stop()
		s.check(t)
	}
	s.run(t.Context(), t, load{clients: 16, posts: 200, hot: 100})
	s.kill("worker1")
	s.check(t)
	s.named("worker2").terminate(t)
	s.named("server1").terminate(t)
	s.named("server2").terminate(t)
}

// The checker is red when the tables themselves are spoiled, not only the evidence in its unit tests.
func TestCheckReadsTheTables(t *testing.T) {
	s := newRoles(t, embeddedStores(t), 1, 1)
	s.start(t)
	require.NoError(t, InstallAudit(t.Context(), s.Database))
	s.run(t.Context(), t, load{clients: 8, posts: 400, hot: 5})
	s.check(t)
	s.roles[1].proc.terminate(t) // positions are about to be moved under it
	f := func(rules []string, spoil, repair string) {
		t.Helper()
		s.sql(t, spoil)
		ev, err := Gather(t.Context(), s.Endpoints, s.client)
		require.NoError(t, err)
		report := Check(s.ledger, ev, OrphansAllowed)
		require.Subset(t, report.Broken(), rules, "%s: %s", spoil, report)
		s.sql(t, repair)
	}
	f([]string{"I3"}, `UPDATE trades SET book_id = 'B-1x'`, `UPDATE trades SET book_id = 'B-1'`)
	f([]string{"I3"}, `UPDATE trades SET maturity_date = maturity_date - 1`, `UPDATE trades SET maturity_date = maturity_date + 1`)
	f([]string{"I3"}, `UPDATE trades SET version = version + 100`, `UPDATE trades SET version = version - 100`)
	f([]string{"I4"}, `UPDATE submissions SET outcome = 'FAILED', reason = 'INVALID_RECORD' WHERE outcome = 'SUCCESS'`,
		`UPDATE submissions SET outcome = 'SUCCESS', reason = NULL WHERE reason = 'INVALID_RECORD'`)
	f([]string{"I4"}, `UPDATE submissions SET "offset" = "offset" + 1`, `UPDATE submissions SET "offset" = "offset" - 1`)
	f([]string{"E7"}, `INSERT INTO dead_letter SELECT 0, now(), 0, topic_id, NULL, 'x', 'x', 'x' FROM ingest_offsets WHERE partition = 0`, `DELETE FROM dead_letter`)
	f([]string{"I11"}, `UPDATE ingest_offsets SET next_offset = next_offset + 1`, `SELECT 1`)
	f([]string{"I1", "P1"}, `TRUNCATE requests, submissions`, `SELECT 1`)
}

// The group offset is a lag hint: moved by hand, it moves nothing else (A8).
func TestGroupOffsetMovedByHand(t *testing.T) {
	s := newRoles(t, embeddedStores(t), 1, 1)
	s.start(t)
	require.NoError(t, InstallAudit(t.Context(), s.Database))
	s.run(t.Context(), t, load{clients: 8, posts: 400, hot: 20})
	s.drained(t)
	s.roles[1].proc.terminate(t)
	s.moveGroup(t, 0)
	s.start(t)
	s.run(t.Context(), t, load{clients: 8, posts: 100, hot: 20})
	s.drained(t)
	s.roles[1].proc.terminate(t)
	s.moveGroup(t, 1_000_000)
	s.start(t)
	s.run(t.Context(), t, load{clients: 8, posts: 100, hot: 20})
	s.check(t)
	s.stop(t)
}
