package server

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/kafka"
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
