package server

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLookUpsRunOneAtATimeAndRest(t *testing.T) {
	p := newThrottle()
	var running, most, done, spent atomic.Int64 // spent: nanoseconds in look-ups
	var all sync.WaitGroup
	began := time.Now()
	for range 20 {
		all.Go(func() {
			for !p.do(func() {
				start := time.Now()
				most.Store(max(most.Load(), running.Add(1)))
				time.Sleep(time.Millisecond) // what a store takes
				running.Add(-1)
				done.Add(1)
				spent.Add(int64(time.Since(start)))
			}) {
				continue
			}
		})
	}
	all.Wait()
	require.EqualValues(t, 20, done.Load())
	require.EqualValues(t, 1, most.Load())
	last := spent.Load() / 20 * throttlePause // nobody rests behind the last one
	require.LessOrEqual(t, spent.Load()*(1+throttlePause)-2*last, int64(time.Since(began)))
}

func TestALookUpWhoseTurnDoesNotComeSoonIsLeftOut(t *testing.T) {
	p := newThrottle()
	looks := 0
	lookUp := func() { looks++ }
	p.do(func() {
		require.False(t, p.do(lookUp), "one is under way")
	})
	eventually(t, func() bool { return p.do(lookUp) }, "the turn is not lost")
	require.Equal(t, 1, looks)
	require.Eventually(t, func() bool {
		return assert.Panics(t, func() { p.do(func() { panic("in a store") }); panic("its turn did not come") })
	}, giveUpAfter, time.Millisecond)
	eventually(t, func() bool { return p.do(lookUp) })
}
