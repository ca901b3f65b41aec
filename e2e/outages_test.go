package e2e

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/teststack"
)

// handOver makes the group take the partitions of a silent worker away as early as a broker allows.
var handOver = []string{"TRADESTORE_KAFKA_SESSION_TIMEOUT=6s", "TRADESTORE_TRANSACTION_LIMIT=5s"}

// soonLost makes the resolver wait for as short a time as deadlines allow.
var soonLost = []string{"TRADESTORE_DELIVERY_TIMEOUT=3s", "TRADESTORE_RESOLVE_AFTER=12s", "TRADESTORE_RESOLVE_INTERVAL=1s"}

// resolveLimit is how long after the end of a fault the last orphan may stay PENDING (I5).
const resolveLimit = 3 * time.Minute

// kill -9 of each store and each role under load, one after the other. Meanwhile each answer is a 202 that holds or an
// honest 503; afterwards nothing is lost, nothing is there twice, and what never reached the log ends NOT_DELIVERED.
func TestOutages(t *testing.T) {
	broker, database := teststack.ApacheKafka(t), teststack.OwnPostgres(t)
	s := newRoles(t, stores{kafka: broker.Addrs(), database: database.URL(), env: soonLost}, 2, 2)
	s.env = append(s.env, handOver...)
	s.start(t)
	require.NoError(t, InstallAudit(t.Context(), s.Database))
	outage := func(name string, strike, repair func()) {
		t.Helper()
		began := time.Now()
		stop := s.background(t, load{clients: 16, hot: 100})
		s.accepted(t, 100)
		strike()
		repair()
		s.accepted(t, 100)
		stop()
		s.check(t)
		t.Logf("outage of %s: %v; answers so far %v", name, time.Since(began).Round(time.Second), s.ledger.Count())
	}
	for range scale(1, 20) {
		outage("Apache Kafka", func() {
			broker.Kill()
			s.refusing(t, 20)
			require.NotZero(t, s.unknown(), "records were under way")
		}, func() { require.NoError(t, broker.Restart(t.Context())) })
		outage("PostgreSQL", func() {
			kill := s.postgresKiller(t)
			s.refusing(t, 20, kill)
		}, func() {})
		outage("a worker", func() {
			s.kill("worker1")
			s.accepted(t, 50)
		}, func() { s.start(t) })
		for _, p := range s.ledger.Posts() {
			require.NotZero(t, p.Status, "a POST was not answered though no server was disturbed")
		}
		outage("a server", func() {
			s.kill("server1")
			s.accepted(t, 50)
		}, func() { s.start(t) })
	}
	for status := range s.ledger.Count() {
		require.Contains(t, []int{0, http.StatusAccepted, http.StatusBadRequest, http.StatusServiceUnavailable}, status, "%v", s.ledger.Count())
	}
	s.resolved(t)
	s.stop(t)
}

// refusing waits until n more POSTs have been answered 503, and does to the store again and again what keeps it down.
func (s *stack) refusing(t *testing.T, n int, again ...func()) {
	t.Helper()
	want := s.ledger.Count()[http.StatusServiceUnavailable] + n
	require.True(t, poll(t, drainLimit, func() bool {
		for _, f := range again {
			f()
		}
		return s.ledger.Count()[http.StatusServiceUnavailable] >= want
	}), "posts are answered as if nothing were wrong: %v", s.ledger.Count())
}

// resolved waits until no request is PENDING and compares everything with everything.
func (s *stack) resolved(t *testing.T) {
	t.Helper()
	before := s.check(t)
	limit, closed := time.Now().Add(resolveLimit), 0
	for id := range before.Opened {
		if before.States[id].Status.Terminal() {
			continue
		}
		ended := poll(t, time.Until(limit), func() bool {
			state, _, err := s.client.Status(t.Context(), id)
			require.NoError(t, err)
			return state.Status.Terminal()
		})
		require.True(t, ended, "request %s stays PENDING", id)
		closed++
	}
	ev, err := Gather(t.Context(), s.Endpoints, s.client)
	require.NoError(t, err)
	report := Check(s.ledger, ev, OrphansClosed)
	require.Empty(t, report.Broken(), report)
	t.Logf("checked %s; waited for %d orphans of %d", report.Summary, closed, len(closedBy(ev.Journal)))
}

// Both servers and both workers are restarted in turn under load: clients see closed connections and nothing else. No
// balancer tells them that a server is about to end; one that starts gets calls when it is ready.
func TestRollingRestart(t *testing.T) {
	s := newRoles(t, realStores(t), 2, 2)
	s.start(t)
	require.NoError(t, InstallAudit(t.Context(), s.Database))
	for range scale(1, 50) {
		stop := s.background(t, load{clients: 16, hot: 100})
		for _, r := range s.roles {
			s.accepted(t, 100)
			r.proc.terminate(t)
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
}

// unknown counts the POSTs that were answered 503 with the id to ask for: it could not be told whether they have effect.
func (s *stack) unknown() (n int) {
	for _, p := range s.ledger.Posts() {
		if p.Status == http.StatusServiceUnavailable && !p.RequestID.IsZero() {
			n++
		}
	}
	return n
}
