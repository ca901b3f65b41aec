package e2e

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/test/stack"
	"tradestore/test/stack/services"
)

// soonLost makes the orphan reaper wait for as short a time as deadlines allow.
var soonLost = []string{"TRADESTORE_DELIVERY_TIMEOUT=3s", "TRADESTORE_ORPHAN_AFTER=12s",
	"TRADESTORE_ORPHAN_INTERVAL=1s"}

// resolveLimit is how long after the end of a fault the last orphan may stay PENDING (I5).
const orphanLimit = 3 * time.Minute

// kill -9 of each store and each role under load, one after the other. Meanwhile each answer is a 202 that holds or an
// honest 503; afterwards nothing is lost, nothing is there twice, and what never reached the log ends NOT_DELIVERED.
func TestOutages(t *testing.T) {
	t.Parallel()
	t.Run(onReal, func(t *testing.T) {
		t.Parallel()
		broker, database := stack.ApacheKafka(t), stack.OwnPostgres(t)
		s := newRoles(t, stores{kafka: broker.Addrs(), database: database.URL(), env: handOver}, 2, 2)
		testOutages(t, s, broker, func() {
			s.outage(t, "PostgreSQL", func() { s.refusing(t, 20, s.postgresKiller(t)) }, func() {})
		})
	})
	t.Run(onDynamoDB, func(t *testing.T) {
		t.Parallel()
		broker, database, table := stack.ApacheKafka(t), stack.OwnPostgres(t), stack.OwnDynamoDB(t)
		s := newRoles(t, stores{kafka: broker.Addrs(), database: database.URL(), dynamoDB: table.Endpoint(), env: handOver},
			2, 2)
		testOutages(t, s, broker, func() {
			s.outage(t, "PostgreSQL", func() { s.acceptingAlone(t) }, func() {})
			s.outage(t, "DynamoDB", func() {
				table.Kill()
				s.refusing(t, 50)
			}, func() { require.NoError(t, table.Restart(t.Context())) })
		})
	})
}

// testOutages runs the outages of the log and of the roles, and between them those that differ by the request store.
func testOutages(t *testing.T, s *deployment, broker *services.Kafka, others func()) {
	t.Helper()
	s.env = append(s.env, soonLost...)
	s.start(t)
	require.NoError(t, InstallAudit(t.Context(), s.Database))
	for range scale(1, 20) {
		unanswered := s.ledger.Count()[0]
		s.outage(t, "Apache Kafka", func() {
			broker.Kill()
			s.refusing(t, 20)
			require.NotZero(t, s.unknown(), "records were under way")
		}, func() { require.NoError(t, broker.Restart(t.Context())) })
		others()
		s.outage(t, "a worker", func() {
			s.kill("worker1")
			s.accepted(t, 50)
		}, func() { s.start(t) })
		require.Equal(t, unanswered, s.ledger.Count()[0], "a POST was not answered though no server was disturbed")
		s.outage(t, "a server", func() {
			s.kill("server1")
			s.accepted(t, 50)
		}, func() { s.start(t) })
	}
	s.answered(t, 0, http.StatusAccepted, http.StatusBadRequest, http.StatusServiceUnavailable)
	s.orphansClosed(t)
	s.stop(t)
}

// outage strikes under load, repairs, and compares everything with everything.
func (s *deployment) outage(t *testing.T, name string, strike, repair func()) {
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

// acceptingAlone keeps PostgreSQL down and expects that every trade is accepted and every status is shown, by the
// request store on DynamoDB alone, while reads of trades are refused.
func (s *deployment) acceptingAlone(t *testing.T) {
	t.Helper()
	kill := s.postgresKiller(t)
	down := func() bool {
		kill()
		a := s.get(t, "/api/v1/trades")
		if a.Status != http.StatusServiceUnavailable {
			return false
		}
		a.refused(t, http.StatusServiceUnavailable, "STORE_UNAVAILABLE")
		return true
	}
	refused := s.ledger.Count()[http.StatusServiceUnavailable]
	require.True(t, poll(t, drainLimit, down), "trades are shown as if nothing were wrong")
	want := s.ledger.Count()[http.StatusAccepted] + 50
	require.True(t, poll(t, drainLimit, func() bool {
		kill()
		return s.ledger.Count()[http.StatusAccepted] >= want
	}), "posts are not accepted: %v", s.ledger.Count())
	p := s.submit(t, s.ledger.newTrade("ALONE-1", 1))
	require.Equal(t, http.StatusOK, s.get(t, "/api/v1/requests/"+p.RequestID.String()).Status)
	require.True(t, poll(t, drainLimit, down), "PostgreSQL was not down")
	require.Equal(t, refused, s.ledger.Count()[http.StatusServiceUnavailable],
		"a trade was refused that needs no PostgreSQL")
}

// refusing waits until n more POSTs have been answered 503, and does to the store again and again what keeps it down.
func (s *deployment) refusing(t *testing.T, n int, again ...func()) {
	t.Helper()
	want := s.ledger.Count()[http.StatusServiceUnavailable] + n
	require.True(t, poll(t, drainLimit, func() bool {
		for _, f := range again {
			f()
		}
		return s.ledger.Count()[http.StatusServiceUnavailable] >= want
	}), "posts are answered as if nothing were wrong: %v", s.ledger.Count())
}

// orphansClosed waits until no request is PENDING and compares everything with everything.
func (s *deployment) orphansClosed(t *testing.T) {
	t.Helper()
	before := s.check(t)
	limit, closed := time.Now().Add(orphanLimit), 0
	for id := range before.Opened {
		if before.States[id].Status.Terminal() {
			continue
		}
		ended := poll(t, time.Until(limit), func() bool {
			state, _, err := s.client.PatientStatus(t.Context(), id)
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

// unknown counts the POSTs that were answered 503 with a request id: whether they have effect was not known.
func (s *deployment) unknown() (n int) {
	for _, p := range s.ledger.Posts() {
		if p.Status == http.StatusServiceUnavailable && !p.RequestID.IsZero() {
			n++
		}
	}
	return n
}
