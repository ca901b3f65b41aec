package server

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLookUpsRunOneAtATimeAndRest(t *testing.T) {
	p := newPace()
	var running, most, done atomic.Int64
	var spent atomic.Int64 // nanoseconds in look-ups
	var all sync.WaitGroup
	began := time.Now()
	for range 20 {
		all.Go(func() {
			assert.NoError(t, p.do(t.Context(), func() {
				start := time.Now()
				most.Store(max(most.Load(), running.Add(1)))
				time.Sleep(time.Millisecond) // what a store takes
				running.Add(-1)
				done.Add(1)
				spent.Add(int64(time.Since(start)))
			}))
		})
	}
	all.Wait()
	require.EqualValues(t, 20, done.Load())
	require.EqualValues(t, 1, most.Load())
	last := spent.Load() / 20 * paceRest // nobody rests behind the last one
	require.LessOrEqual(t, spent.Load()*(1+paceRest)-2*last, int64(time.Since(began)))
}

func TestALookUpWhoseTurnDoesNotComeIsLeftOut(t *testing.T) {
	p := newPace()
	ended, end := context.WithCancel(t.Context())
	end()
	held := make(chan struct{})
	go func() { _ = p.do(t.Context(), func() { <-held }) }()
	require.Eventually(t, func() bool { return len(p.turn) == 0 }, giveUpAfter, time.Millisecond)
	require.ErrorIs(t, p.do(ended, func() { t.Error("looked") }), context.Canceled)
	close(held)
	require.NoError(t, p.do(t.Context(), func() {}), "the turn is not lost")
	assert.Panics(t, func() { _ = p.do(t.Context(), func() { panic("in a store") }) })
	require.NoError(t, p.do(t.Context(), func() {}))
}
