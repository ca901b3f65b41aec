package e2e

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

// Moving to a topic with more partitions, rehearsed under load (T10): refused while anything is left to do, then done
// with a server and a worker forgotten. No 202 is lost, and each trade id keeps its order from one topic to the next.
func TestAMoveToMorePartitions(t *testing.T) {
	t.Parallel()
	s := newRoles(t, realStores(t), 2, 2)
	s.env = append(s.env, "TRADESTORE_ACCEPT_DEADLINE=3s", "TRADESTORE_DELIVERY_TIMEOUT=3s", "TRADESTORE_ORPHAN_AFTER=12s",
		"TRADESTORE_ORPHAN_INTERVAL=1s")
	forgetful := "TRADESTORE_CHECK_INTERVAL=1h" // a process that does not notice by itself
	s.start(t, forgetful)
	require.NoError(t, InstallAudit(t.Context(), s.Database))
	traffic := load{clients: 8, hot: 20}
	stop := s.background(t, traffic)
	s.accepted(t, 200)

	next := []string{"TRADESTORE_TOPIC=" + s.Topic + "-2", "TRADESTORE_PARTITIONS=17"}
	s.staysPut(t, next, "cannot move from topic "+s.Topic+", which is still in use") // servers accept
	s.accepted(t, 100)
	stop()
	s.drained(t)
	s.allEnded(t)
	s.terminate(t, "worker1", "worker2")
	orphan := trade.NewRequestID(time.Now().Add(-time.Minute))
	s.sql(t, `INSERT INTO requests (accepted_at, accepted_on, partition, version, request_id, trade_id)
		SELECT at, (at AT TIME ZONE 'UTC')::date, 3, 1, $1, 'ORPHAN' FROM (SELECT now() - interval '1 minute' AS at)`,
		orphan.String())
	s.staysPut(t, next, "requests expected to have ended, seen: 1 PENDING")
	s.sql(t, "UPDATE projection_cursor SET projected_offset = 0")
	s.staysPut(t, next, "the workers have outcomes to show")
	require.Equal(t, Accepted, s.client.Submit(t.Context(), s.ledger.newTrade("HOT-001", 21)).Verdict())
	s.staysPut(t, next, "the workers are not through with topic "+s.Topic)
	s.start(t, "TRADESTORE_CHECK_INTERVAL=5s")
	s.drained(t)
	s.allEnded(t)

	s.terminate(t, "server1", "worker1")
	moved, said := s.migrate(t, next)
	require.True(t, moved, said)
	again, said := s.migrate(t, next)
	require.True(t, again, said)
	require.Contains(t, said, "the database follows this topic already")

	forgotten, at := s.named("server2"), s.running()
	s.client.Use(at...)
	for i := range 5 {
		p := s.client.Submit(t.Context(), s.ledger.newTrade("HOT-002", 22))
		assert.Equal(t, http.StatusServiceUnavailable, p.Status)
		knows := i > 0 && p.Code == logUnavailable // nothing was opened, because the first record was not taken
		assert.Equal(t, knows, p.RequestID.IsZero(), "it may say that this had no effect only if it knows")
	}
	s.Earlier, s.Topic = []string{s.Topic}, s.Topic+"-2"
	s.env = append(s.env, next...)
	worker2 := s.named("worker2")
	s.start(t) // beside those that are forgotten
	s.client.Use(s.API)
	stop = s.background(t, traffic)
	s.accepted(t, 200)
	require.Equal(t, 1, worker2.Exit(t), "it finds itself in the wrong topic")
	// by a check, or when it asked for its positions
	require.Regexp(t, "checks failed: T|in generation 2", worker2.Output(t))
	forgotten.Terminate(t)
	s.start(t)
	s.client.Use(s.running()...)
	s.accepted(t, 100)
	stop()
	s.drained(t)
	s.allEnded(t)

	ev, err := Gather(t.Context(), s.Endpoints, s.client)
	require.NoError(t, err)
	report := Check(s.ledger, ev, OrphansClosed)
	require.Empty(t, report.Broken(), report)
	t.Logf("checked %s; answers %v", report.Summary, s.ledger.Count())
	require.NotEmpty(t, ev.Log)
	require.NotEmpty(t, ev.Earlier[0].Log)
	require.Len(t, ev.LogEnd, 17)
	s.stop(t)
}

// migrate runs the command that moves to another topic, and says whether it did and what it wrote.
func (s *deployment) migrate(t *testing.T, next []string) (moved bool, said string) {
	t.Helper()
	p := launch(t, "migrate", s.path, append(append([]string{}, s.env...), next...), "migrate", "--new-generation")
	code := p.Exit(t)
	return code == 0, p.Output(t)
}

// staysPut expects that the command refuses for the reason given.
func (s *deployment) staysPut(t *testing.T, next []string, reason string) {
	t.Helper()
	moved, said := s.migrate(t, next)
	require.False(t, moved, said)
	require.Contains(t, said, reason)
	require.Contains(t, said, "still in use")
}

// terminate drains the processes named.
func (s *deployment) terminate(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		s.named(name).Terminate(t)
	}
}

// allEnded waits until no request is PENDING.
func (s *deployment) allEnded(t *testing.T) {
	t.Helper()
	conn := s.connect(t)
	var pending int
	require.True(t, poll(t, 3*time.Minute, func() bool {
		err := conn.QueryRow(t.Context(), `SELECT count(*) FROM requests AS r
			WHERE NOT EXISTS (SELECT FROM journal AS s WHERE s.accepted_on = r.accepted_on AND s.request_id = r.request_id)`).
			Scan(&pending)
		return err == nil && pending == 0
	}), "%d requests are PENDING", pending)
}
