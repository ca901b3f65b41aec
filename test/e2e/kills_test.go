package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"tradestore/test/stack"
)

// kill -9 of every process at a random moment under load, again and again on the same stores. In the case of
// `tradestore dev` the database and the broker go down with it.
func TestKilledUnderLoad(t *testing.T) {
	t.Parallel()
	t.Run(onDev, func(t *testing.T) { t.Parallel(); testKilledUnderLoad(t, newDev(t, "")) })
	on(t, testKilledUnderLoad, onReal, onDynamoDB)
}

func testKilledUnderLoad(t *testing.T, s *deployment) {
	t.Helper()
	s.start(t)
	require.NoError(t, InstallAudit(t.Context(), s.Database))
	for range scale(2, 50) {
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

// The process kills itself at each line where a crash could leave half of something behind. Where there are others,
// they go on.
func TestKilledAtFailpoints(t *testing.T) {
	t.Parallel()
	for range scale(1, 100) {
		on(t, testKilledAtFailpoints, onDev, onReal, onDynamoDB)
	}
}

func testKilledAtFailpoints(t *testing.T, s *deployment) {
	t.Helper()
	s.path = s.build(t, "failpoint")
	s.start(t)
	require.NoError(t, InstallAudit(t.Context(), s.Database))
	f := func(kind string, points ...string) {
		t.Helper()
		for _, point := range points {
			stop := s.dieAt(t, kind, point)
			s.start(t)
			s.accepted(t, 20)
			stop()
			s.drained(t)
		}
		s.check(t)
	}
	f("server", "afterPending", "beforeProduce", "afterAckBefore202")
	if stack.Long || s.DynamoDB == "" { // where requests are tracked makes no difference to applying
		f("worker", "afterPoll", "afterCAS", "afterCopy", "beforeCommit", "afterCommit", "beforeGroupCommit")
	}
	f("worker", "beforeStatus", "afterCursor") // projection
	if s.DynamoDB != "" {
		f("worker", "afterProjectBeforeCursor")
	}
	s.stop(t)
}

// dieAt starts the first process of a kind anew, so that it kills itself on one of its first passes of the line of that
// name, and returns when it has. The load goes on until stop.
func (s *deployment) dieAt(t *testing.T, kind, point string) (stop func()) {
	t.Helper()
	doomed := s.first(kind)
	doomed.proc.Terminate(t)
	s.launch(t, fmt.Sprintf("TRADESTORE_FAILPOINT=%s:%d", point, 1+rand.IntN(8)))
	stop = s.background(t, load{clients: 8, hot: 50})
	doomed.proc.Exit(t)
	died := doomed.proc.State().Sys().(syscall.WaitStatus)
	require.Equal(t, syscall.SIGKILL, died.Signal(), "%s: %s", point, doomed.proc.Tail())
	return stop
}

// unhurried gives a slow machine time to answer: a POST refused for lateness would hide one refused for a drain.
var unhurried = []string{"TRADESTORE_ACCEPT_DEADLINE=15s"} // and so 10 s for the request store

// SIGTERM under load: whoever got an answer got a good one, and the exit code is 0.
func TestTerminatedUnderLoad(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, s *deployment) {
		s.env = append(s.env, unhurried...)
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
	}, onDev, onReal)
}

// onlyCloses expects that whoever was not answered as usual saw a closed connection and nothing else.
func (s *deployment) onlyCloses(t *testing.T) {
	t.Helper()
	s.answered(t, 0, http.StatusAccepted, http.StatusBadRequest)
}

// answered expects that every POST so far was answered with one of the statuses given; 0 stands for no answer.
func (s *deployment) answered(t *testing.T, statuses ...int) {
	t.Helper()
	answers := s.ledger.Count()
	for status := range answers {
		require.Contains(t, statuses, status, "%v", answers)
	}
}

// Both servers and both workers are restarted in turn under load: clients see closed connections and nothing else. No
// balancer tells them that a server is about to end; one that starts gets calls when it is ready.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, s *deployment) {
		s.env = append(s.env, unhurried...)
		s.start(t)
		require.NoError(t, InstallAudit(t.Context(), s.Database))
		for range scale(1, 50) {
			stop := s.background(t, load{clients: 16, hot: 100})
			for _, r := range s.roles {
				s.accepted(t, 100)
				r.proc.Terminate(t)
				s.client.Use(s.running()...)
				s.accepted(t, 50)
				s.start(t)
				s.client.Use(s.running()...)
			}
			s.accepted(t, 50)
			stop()
			s.onlyCloses(t)
			s.check(t)
		}
		s.stop(t)
	}, onReal, onDynamoDB)
}

// A worker is frozen until the other has taken its partitions over, and thawed in the middle of what it was doing: its
// position has moved on without it, so it changes nothing (A1). Then it is killed.
func TestWorkerFrozenThenKilled(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, s *deployment) {
		s.start(t)
		require.NoError(t, InstallAudit(t.Context(), s.Database))
		frozen := s.named("worker1")
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
		s.named("worker2").Terminate(t)
		s.named("server1").Terminate(t)
		s.named("server2").Terminate(t)
	}, onReal, onDynamoDB)
}
