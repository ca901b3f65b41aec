package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/test/program"
	"tradestore/test/stack"
)

const (
	// rowsVar sets how many rows each large table has when the upgrade begins.
	rowsVar     = "TRADESTORE_E2E_UPGRADE_ROWS"
	fewRows     = 200_000
	upgradeRate = 500 // trades a second
	mostAtOnce  = 200 // posts under way; on a machine that is too slow for the rate there is no more than that
	// previousVar names the binary of a release, to upgrade from it to this build. Without it this build is upgraded to a
	// build that stands for the release after it (tag nextrelease).
	previousVar = "TRADESTORE_E2E_PREVIOUS"
)

// An upgrade, rehearsed under load on tables with many rows: migrate while the old release runs, old and new side by
// side, a rolling restart, and the old release again on the new schema. Nothing is lost, and everybody is answered.
func TestAnUpgradeAndTheWayBack(t *testing.T) {
	stack.OnlyLong(t)
	rows := fewRows
	if given := os.Getenv(rowsVar); given != "" {
		var err error
		rows, err = strconv.Atoi(given)
		require.NoError(t, err, rowsVar)
	}
	s := newRoles(t, realStores(t), 2, 2)
	s.env = append(s.env, unhurried...)
	before, after := s.path, program.BuildRace(t, "nextrelease")
	if given := os.Getenv(previousVar); given != "" {
		before, after = given, s.path
	}
	s.path = before
	s.start(t)
	s.fill(t, rows)
	require.NoError(t, InstallAudit(t.Context(), s.Database))
	stop := s.steady(t, upgradeRate)
	began := time.Now()
	s.accepted(t, 10*upgradeRate)
	s.served(t, "the load before", began)

	began = time.Now()
	migrate := launch(t, "migrate", after, s.env, "migrate")
	require.Zero(t, migrate.Exit(t), migrate.Tail())
	s.served(t, fmt.Sprintf("the migration of %d rows a table", rows), began)
	s.accepted(t, upgradeRate)

	for _, release := range []string{after, before} { // there and back
		for _, r := range s.roles {
			r.proc.Terminate(t)
			s.client.Use(s.running()...)
			s.path = release
			s.start(t)
			s.client.Use(s.running()...)
			s.accepted(t, upgradeRate)
		}
	}
	again := launch(t, "migrate", before, s.env, "migrate")
	require.Zero(t, again.Exit(t), "the old release leaves the newer schema as it is: %s", again.Tail())
	stop()
	s.drained(t)
	s.answered(t, 0, http.StatusAccepted, http.StatusBadRequest, http.StatusServiceUnavailable)
	s.empty(t)
	s.check(t)
	s.stop(t)
}

// steady posts trades at a rate a second until stop is called, and at most mostAtOnce at the same time.
func (s *deployment) steady(t *testing.T, rate int) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var under sync.WaitGroup
	under.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		began, slots := time.Now(), make(chan struct{}, mostAtOnce)
		for sent := 0; ctx.Err() == nil; <-tick.C {
			for due := int(time.Since(began).Seconds() * float64(rate)); sent < due; sent++ {
				slots <- struct{}{}
				tr := s.ledger.newTrade(fmt.Sprintf("STEADY-%06d", sent/4), int32(sent%4)+1)
				under.Go(func() {
					s.client.Submit(context.WithoutCancel(ctx), tr)
					<-slots
				})
			}
		}
	})
	stop = func() { cancel(); under.Wait() }
	t.Cleanup(stop)
	return stop
}

// served logs what clients saw since began, and demands that they were served.
func (s *deployment) served(t *testing.T, what string, began time.Time) {
	t.Helper()
	answers, slowest := map[int]int{}, time.Duration(0)
	for _, p := range s.ledger.Posts() {
		if p.Answered.After(began) {
			answers[p.Status]++
			slowest = max(slowest, p.Answered.Sub(p.Sent))
		}
	}
	took := time.Since(began).Seconds()
	t.Logf("%s: %.1f s, %.0f accepted/s, answers %v, the slowest after %v", what, took,
		float64(answers[http.StatusAccepted])/took, answers, slowest)
	assert.NotZero(t, answers[http.StatusAccepted])
	assert.Zero(t, answers[http.StatusServiceUnavailable], "the migration made trades wait for too long")
}

// fill puts rows into the tables that grow, as requests that ended a while ago. Nothing in the log stands for them.
func (s *deployment) fill(t *testing.T, rows int) {
	t.Helper()
	s.sql(t, `WITH old AS (
			SELECT n, gen_random_uuid() AS id, now() AS at, (now() AT TIME ZONE 'UTC')::date AS day
			FROM generate_series(1, $1::int) AS n
		), stored AS (
			INSERT INTO trades (src_offset, stored_at, version, src_generation, src_partition, maturity_date, created_date,
				request_id, trade_id, counterparty_id, book_id)
			SELECT 0, at, 1, 1, 0, '2099-12-31', '2026-01-15', id, 'FILL-' || n, 'CP', 'B' FROM old
		), decided AS (
			INSERT INTO journal (accepted_at, decided_at, accepted_on, generation, partition, request_id, outcome, reason,
				trade_id, version)
			SELECT at, at, day, 1, 0, id, 'FAILED', 'NOT_DELIVERED', 'FILL-' || n, 1 FROM old
		)
		INSERT INTO requests (accepted_at, accepted_on, partition, version, request_id, trade_id)
		SELECT at, day, 0, 1, id, 'FILL-' || n FROM old`, rows)
}

// empty takes the rows of fill away again: the checker compares the tables with the log.
func (s *deployment) empty(t *testing.T) {
	t.Helper()
	for _, table := range []string{"requests", "journal", "trades"} {
		s.sql(t, "DELETE FROM "+table+" WHERE trade_id LIKE 'FILL-%'")
	}
}
