package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/test/stack"
	"tradestore/trade"
)

// The PostgreSQL that takes writes dies under load, and its standby is promoted some time later. Meanwhile all roles
// see a server that takes no writes, and live on. With a synchronous standby nothing is lost. Without one the PENDING
// entries are lost that were not replicated, and nothing else: the log has their records.
func TestFailover(t *testing.T) {
	stack.OnlyLong(t)
	for _, synchronous := range []bool{true, false} {
		for _, outage := range []time.Duration{10 * time.Second, 45 * time.Second} {
			name := map[bool]string{true: "synchronous", false: "asynchronous"}[synchronous]
			t.Run(fmt.Sprintf("%s, promoted after %v", name, outage), func(t *testing.T) {
				testFailover(t, synchronous, outage)
			})
		}
	}
}

func testFailover(t *testing.T, synchronous bool, outage time.Duration) {
	t.Helper()
	pair := stack.NewPair(t, synchronous)
	s := newRoles(t, realStoresWith(t, pair.URL()), 2, 2)
	s.env = append(s.env, "TRADESTORE_CHECK_INTERVAL=2s") // each role looks several times while there is only the standby
	s.start(t)
	require.NoError(t, InstallAudit(t.Context(), s.Database))
	stop := s.background(t, load{clients: 16, hot: 100})
	s.accepted(t, 200)
	detached := time.Now()
	if !synchronous {
		pair.Detach()
		s.accepted(t, 100)
	}
	pair.Writer.Kill()
	s.refusing(t, 20)
	<-time.After(outage)
	pair.Promote()
	s.readyAgain(t)
	s.accepted(t, 200)
	stop()
	for _, r := range s.roles {
		require.True(t, r.proc.Running(), "%s ended:\n%s", r.name, r.proc.Tail())
		require.Contains(t, r.proc.Output(t), "takes writes: expected yes, seen: no: a replica", "%s saw no standby", r.name)
	}

	s.drained(t)
	ev, err := Gather(t.Context(), s.Endpoints, s.client)
	require.NoError(t, err)
	lost := s.unopened(t, ev)
	report := Check(s.ledger, ev, OrphansAllowed)
	if synchronous {
		require.Empty(t, report.Broken(), report)
	} else {
		require.NotEmpty(t, lost, "the failover took nothing back: the test shows nothing")
		require.Equal(t, []string{"P1"}, report.Broken(), report) // no PENDING entry
		require.Len(t, report.offences["P1"], len(lost))
		for _, p := range s.ledger.Posts() {
			require.False(t, lost[p.RequestID] && p.Answered.Before(detached), "request %s was replicated", p.RequestID)
		}
	}
	t.Logf("checked %s; %d PENDING entries lost; answers %v", report.Summary, len(lost), s.ledger.Count())
	s.stop(t)
}

// unopened returns the requests of the log that have no PENDING entry any more, and adds what GET shows of them to the
// evidence: their outcome is in the journal.
func (s *deployment) unopened(t *testing.T, ev *Evidence) map[trade.RequestID]bool {
	t.Helper()
	lost := map[trade.RequestID]bool{}
	for _, rec := range ev.records() {
		if ev.Opened[rec.ID] {
			continue
		}
		state, found, err := s.client.PatientStatus(t.Context(), rec.ID)
		require.NoError(t, err)
		if lost[rec.ID] = true; found {
			ev.States[rec.ID] = state
		}
	}
	return lost
}
