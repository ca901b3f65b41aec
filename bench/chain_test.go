package main

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"tradestore/test/stack"
)

// Every variant takes trades and, but without Kafka, applies them: a store that does nothing does not stop the chain.
func TestVariantsOfTheChain(t *testing.T) {
	h := testHarness(t)
	for i, v := range variants {
		if v.needsDatabase() {
			continue // the next test
		}
		for _, broker := range []string{v.broker, inMemory} {
			c := v.chainSpec
			c.broker = broker
			target, err := h.chain(t.Context(), 10*i+len(broker), v.name+" "+broker, c)
			require.NoError(t, err)
			got, err := h.attack(t.Context(), target, 200*time.Millisecond)
			require.NoError(t, err)
			require.Positive(t, got.count)
			require.Equal(t, broker != blackhole, got.stored > 0)
		}
	}
}

// The chain as it is stores every trade that it accepts, else it would be no measure for the others.
func TestTheChainStores(t *testing.T) {
	url := stack.Database(t)
	h := testHarness(t)
	_, at, err := h.self(t.Context(), "the chain", []string{databaseVar + "=" + url}, "chain", t.TempDir(), onDisk, "")
	require.NoError(t, err)
	target := target{name: "the chain", api: at.API, worker: at.Worker}
	require.NoError(t, target.ready(t.Context()))
	var accepted float64
	for range 2 {
		got, err := h.attack(t.Context(), target, 200*time.Millisecond)
		require.NoError(t, err)
		require.Zero(t, got.other)
		accepted += got.count
	}
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	var trades, tracked float64
	const counts = "SELECT (SELECT count(*) FROM trades), (SELECT count(*) FROM requests)"
	require.NoError(t, conn.QueryRow(t.Context(), counts).Scan(&trades, &tracked))
	require.Equal(t, accepted, trades)
	require.Equal(t, accepted, tracked)
}

func TestAChainWithoutItsDatabaseDoesNotStart(t *testing.T) {
	h := testHarness(t)
	_, _, err := h.self(t.Context(), "the chain", []string{databaseVar + "="}, "chain", t.TempDir(), inMemory, lookUp)
	require.ErrorContains(t, err, "--database-url")
}
