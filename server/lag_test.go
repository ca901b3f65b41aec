package server

import (
	"fmt"
	"math"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tradestore/kafka"
	"tradestore/postgres"
	"tradestore/test/stack"
)

func TestLag(t *testing.T) {
	a := start(t, nil)
	report := a.get(lagPath).fields(t)
	assert.InDelta(t, 0, report["records_behind"], 0)
	assert.InDelta(t, 0, report["oldest_unapplied_seconds"], 0)
	assert.Empty(t, report["partitions"])

	// Nobody applies what comes in: the backlog is there, its age grows, and no estimate can be given.
	perPartition := map[int32]int{}
	for i := range 6 {
		id := fmt.Sprint("T", i)
		a.post(tradeJSON(id, 1)).accepted(t)
		perPartition[kafka.Partition(id, testPartitions)]++
	}
	sent := time.Now()
	soon := func(ok func() bool, args ...any) { // not asked too often
		t.Helper()
		require.Eventually(t, ok, giveUpAfter, 50*time.Millisecond, args...)
	}
	soon(func() bool { return a.get(lagPath).fields(t)["records_behind"] == 6.0 })
	report = a.get(lagPath).fields(t)
	assert.Nil(t, report["drain_seconds"])
	partitions := report["partitions"].([]any)
	assert.Len(t, partitions, len(perPartition))
	most := math.Inf(1)
	for _, p := range partitions {
		p := p.(map[string]any)
		n := p["records_behind"].(float64)
		assert.InDelta(t, perPartition[int32(p["partition"].(float64))], n, 0)
		assert.InDelta(t, n, p["end_offset"].(float64)-p["next_offset"].(float64), 0)
		assert.LessOrEqual(t, n, most, "the worst first")
		most = n
	}
	soon(func() bool {
		behind, _ := a.get(lagPath).fields(t)["oldest_unapplied_seconds"].(float64) // unknown until a look has seen it
		assert.LessOrEqual(t, behind, time.Since(sent).Seconds()+giveUpAfter.Seconds())
		return behind > 0
	})
	soon(func() bool { return a.post(tradeJSON("T9", 1)).header.Get("Retry-After") == "30" },
		"nothing moves: no need to ask each second")

	a.stores.set(func() { a.stores.onRead = func() error { return errDown } })
	soon(func() bool { return a.get(lagPath).status == 503 })
	a.get(lagPath).problem(t, 503, StoreUnavailable)
	assert.Equal(t, "1", a.get(lagPath).header.Get("Retry-After"), "nothing is known")
	a.get(lagPath+"?x=1").problem(t, 400, InvalidQuery)
}

func TestDrainEstimate(t *testing.T) {
	t.Parallel()
	now := time.Now()
	l := newLag(&Config{}, &Deps{}, newMetrics())
	f := func(applied, left int64, retryAfter int) {
		t.Helper()
		now = now.Add(time.Second)
		l.note(now, applied, left)
		assert.Equal(t, retryAfter, l.retryAfter())
	}
	assert.Equal(t, 1, l.retryAfter(), "before the first look")
	f(1000, 0, 1)
	f(1000, 5000, 30) // a backlog, and no rate yet
	f(2000, 4000, 4)
	f(3000, 100, 1)
	f(3100, 0, 1)
	f(3100, 0, 1)  // what comes slowly is not applied slowly:
	f(3101, 99, 1) // the rate is still the one of the backlog
	f(3101, 50_000, 30)
	for range 100 {
		l.note(now.Add(time.Second), 3101, 50_000)
		now = now.Add(time.Second)
	}
	assert.Equal(t, int64(drainStalled), l.drain.Load(), "nothing moves any more")
	f(3000, 10, 30) // another topic, or a store restored: never a negative rate
}

// While a store hangs, a hundred callers cost it no more than one: they share one look, and its failure.
func TestLagOfAStoreThatHangsIsAskedOnceForAll(t *testing.T) {
	t.Parallel()
	const callers = 100
	url := stack.Database(t)
	require.NoError(t, postgres.Migrate(t.Context(), url))
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: url, ApplicationName: "server"}, prometheus.NewRegistry())
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	_, err = pool.Exec(t.Context(), `
		INSERT INTO ingest_offsets (topic_id, partition, generation, next_offset, leader_epoch, topic)
		SELECT $1, p, 1, 0, 0, $2 FROM generate_series(0, $3) p`, [16]byte{1}, testTopic, testPartitions-1)
	require.NoError(t, err)
	f := func(name string, hang func(*api) (heal func())) {
		t.Run(name, func(t *testing.T) {
			a := start(t, func(cfg *Config, deps *Deps) {
				cfg.StoreTimeout = 200 * time.Millisecond
				deps.Journal = postgres.NewStore(pool, postgres.StoreConfig{Topic: testTopic})
			})
			require.Equal(t, http.StatusOK, a.get(lagPath).status)
			heal := hang(a)
			refused := func() bool { return a.get(lagPath).status == http.StatusServiceUnavailable }
			require.Eventually(t, refused, giveUpAfter, lagInterval/10)
			before := testutil.ToFloat64(a.srv.m.lagErrors)
			var asked sync.WaitGroup
			for range callers {
				asked.Go(func() { a.get(lagPath).problem(t, 503, StoreUnavailable) })
			}
			asked.Wait()
			assert.Less(t, testutil.ToFloat64(a.srv.m.lagErrors)-before, callers/4.0, "each caller has asked the store")
			heal()
			require.Eventually(t, func() bool { return !refused() }, giveUpAfter, lagInterval/10)
		})
	}
	f("PostgreSQL", func(*api) func() {
		tx, err := pool.Begin(t.Context())
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), "LOCK ingest_offsets IN ACCESS EXCLUSIVE MODE")
		require.NoError(t, err)
		return func() { require.NoError(t, tx.Rollback(t.Context())) }
	})
	f("Kafka", func(a *api) func() {
		healed := make(chan struct{})
		a.cluster.ControlKey(int16(kmsg.ListOffsets), func(kmsg.Request) (kmsg.Response, error, bool) {
			a.cluster.SleepControl(func() { <-healed })
			return nil, nil, false
		})
		return func() { close(healed) }
	})
}

// The loop that measures the lag outlives a panic in a store.
func TestAPanicInAStoreDoesNotEndTheLag(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	a.stores.set(func() { a.stores.onRead = func() error { panic("bug") } })
	soon := func(status int) {
		t.Helper()
		require.Eventually(t, func() bool { return a.get(lagPath).status == status }, giveUpAfter, lagInterval/10)
	}
	soon(http.StatusServiceUnavailable)
	a.stores.set(func() { a.stores.onRead = nil })
	soon(http.StatusOK)
}
