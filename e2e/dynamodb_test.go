package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"tradestore/teststack"
)

// kill -9 of DynamoDB under load: each answer is a 202 that holds or an honest 503, the worker goes on storing, and what
// is shown afterwards is what was decided.
func TestDynamoDBOutage(t *testing.T) {
	on, table := realStores(t), teststack.OwnDynamoDB(t)
	on.dynamoDB, on.env = table.Endpoint(), soonLost
	s := newRoles(t, on, 2, 2)
	s.start(t)
	require.NoError(t, InstallAudit(t.Context(), s.Database))
	for range scale(1, 20) {
		stop := s.background(t, load{clients: 16, hot: 100})
		s.accepted(t, 100)
		table.Kill()
		s.refusing(t, 50)
		require.NoError(t, table.Restart(t.Context()))
		s.accepted(t, 100)
		stop()
		s.check(t)
	}
	for status := range s.ledger.Count() {
		require.Contains(t, []int{http.StatusAccepted, http.StatusBadRequest, http.StatusServiceUnavailable}, status, "%v", s.ledger.Count())
	}
	s.resolved(t)
	s.stop(t)
}

// The worker kills itself before it shows outcomes to DynamoDB, and after it has, before it remembers that: the next one
// shows them, once more or for the first time, and none changes.
func TestKilledWhileSettlingToDynamoDB(t *testing.T) {
	on := realStores(t)
	on.dynamoDB, on.env = teststack.DynamoDB(t), handOver
	s := newRoles(t, on, 1, 1)
	s.path = breakingBinary(t)
	s.start(t)
	require.NoError(t, InstallAudit(t.Context(), s.Database))
	for range scale(1, 100) {
		for _, point := range []string{"beforeStatus", "afterSettleBeforeCursor"} {
			s.named("worker1").terminate(t)
			s.launch(t, fmt.Sprintf("TRADESTORE_FAILPOINT=%s:%d", point, 1+rand.IntN(4)))
			doomed := s.named("worker1")
			stop := s.background(t, load{clients: 8, hot: 50})
			doomed.exit(t)
			died := doomed.cmd.ProcessState.Sys().(syscall.WaitStatus)
			require.Equal(t, syscall.SIGKILL, died.Signal(), "%s: %s", point, doomed.tail(t))
			s.start(t)
			s.accepted(t, 20)
			stop()
			s.check(t)
		}
	}
	s.stop(t)
}
