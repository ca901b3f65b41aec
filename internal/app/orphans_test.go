package app

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"tradestore/internal/telemetry"
	"tradestore/postgres"
	"tradestore/test/stack"
	"tradestore/trade"
)

// quickPromise lets an orphan end soon.
var quickPromise = PromiseFlags{DeadlineFlags{100 * time.Millisecond}, time.Second, 2200 * time.Millisecond}

// orphan tracks a request whose record is never written to the log, as a server leaves it that dies in between.
func orphan(t *testing.T, log entries) string {
	t.Helper()
	accepted := time.Now().UTC().Truncate(time.Microsecond).Add(-time.Minute)
	r := &trade.Request{ID: trade.NewRequestID(accepted), AcceptedAt: accepted, BusinessDate: trade.DateOf(accepted),
		Trade: trade.Trade{TradeID: "T9", Version: 1}, CorrelationID: "the call"}
	require.Nil(t, log.Open(t.Context(), []*trade.Request{r}))
	return r.ID.String()
}

// closesOrphans inserts an orphan and runs both roles until a client sees its end.
func (s deployment) closesOrphans(t *testing.T, requests RequestStoreFlags) {
	t.Helper()
	m := s.migrateConfig(t)
	m.RequestStore = requests
	require.NoError(t, Migrate(t.Context(), m, zerolog.Nop()))
	server, worker := s.serverConfig(t), s.workerConfig(t)
	server.RequestStore, worker.RequestStore = requests, requests
	worker.Promise = quickPromise
	s.allow(t, quickPromise)
	worker.Worker.OrphanInterval = 50 * time.Millisecond
	env := Env{Registry: telemetry.NewRegistry(), Log: zerolog.Nop(), Now: time.Now}
	pool, err := postgres.Open(t.Context(), server.Database.pool("test", 1), env.Registry)
	require.NoError(t, err)
	defer pool.Close()
	log, err := requests.open(t.Context(), pool, time.Hour, env)
	require.NoError(t, err)
	defer log.close()
	id := orphan(t, log.entries)

	api := start(t, func(ctx context.Context, env Env) error { return RunServer(ctx, server, env) })
	api.awaitReady(t)
	apply := start(t, func(ctx context.Context, env Env) error { return RunWorker(ctx, worker, env) })
	api.ends(t, id, "FAILED", "NOT_DELIVERED")
	status, answer := api.get(t, "/api/v1/requests/"+id)
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, answer["detail"], "the trade never reached the log")
	pending, err := log.entries.Pending(t.Context(), []int32{0, 1, 2, 3}, time.Now(), 10)
	require.NoError(t, err)
	require.Empty(t, pending)
	apply.await(t, "it is counted", func() bool {
		_, answer = apply.get(t, "/metrics")
		return strings.Contains(answer["text"].(string), "tradestore_orphan_closed_total 1\n")
	})
}

func TestAnOrphanInPostgreSQLEndsNotDelivered(t *testing.T) {
	s := deployment{stack.Database(t), stack.Kafka(t)}
	s.closesOrphans(t, RequestStoreFlags{Kind: onPostgres, Table: "unused"})
}

func TestAnOrphanOnDynamoDBEndsNotDelivered(t *testing.T) {
	s := newDynamoStack(t)
	s.closesOrphans(t, s.requests)
}

// An operator ends what nobody can prove: first the list, which changes nothing, then the end.
func TestOrphansEndsWhatNobodyCanProve(t *testing.T) {
	s := deployment{stack.Database(t), stack.Kafka(t)}
	requests := RequestStoreFlags{Kind: onPostgres, Table: "unused"}
	m := s.migrateConfig(t)
	m.RequestStore = requests
	require.NoError(t, Migrate(t.Context(), m, zerolog.Nop()))
	pool, err := postgres.Open(t.Context(), m.Database.pool("test", 1), telemetry.NewRegistry())
	require.NoError(t, err)
	defer pool.Close()
	log := postgres.NewRequestStore(pool)
	young := orphan(t, log)
	accepted := time.Now().UTC().Truncate(time.Microsecond).Add(-30 * day)
	old := trade.Request{ID: trade.NewRequestID(accepted), AcceptedAt: accepted, Partition: 1,
		Trade: trade.Trade{TradeID: "OLD", Version: 1}}
	require.Nil(t, log.Open(t.Context(), []*trade.Request{&old}))

	c := OrphansConfig{StoreFlags: m.StoreFlags, OlderThan: day, Timeout: time.Minute}
	c.OutcomeRetention = 7 * day
	status := func(id trade.RequestID) trade.Status {
		t.Helper()
		state, err := log.Get(t.Context(), id)
		require.NoError(t, err)
		return state.Status
	}
	for _, c.Close = range []bool{false, true} {
		require.Equal(t, trade.Pending, status(old.ID))
		found, err := Orphans(t.Context(), c)
		require.NoError(t, err)
		require.Len(t, found, 1)
		require.Equal(t, old.ID, found[0].ID)
	}
	require.Equal(t, trade.Failed, status(old.ID))
	found, err := Orphans(t.Context(), c)
	require.NoError(t, err)
	require.Empty(t, found)
	id, err := trade.ParseRequestID(young)
	require.NoError(t, err)
	require.Equal(t, trade.Pending, status(id))
	c.OlderThan = day - 1
	_, err = Orphans(t.Context(), c)
	require.ErrorContains(t, err, "--older-than")
}
