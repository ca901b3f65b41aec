package worker

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

// transactions runs so many at once, each of the given length, and returns how long all of them took.
func transactions(ctx context.Context, t *testing.T, gate *applyGate, count int, length time.Duration) time.Duration {
	began := time.Now()
	var all sync.WaitGroup
	for range count {
		all.Go(func() {
			leave, err := gate.enter(ctx)
			if assert.NoError(t, err) {
				time.Sleep(length)
				leave()
			}
		})
	}
	all.Wait()
	return time.Since(began)
}

func TestTransactionsTakeTurnsWhileTheStoreIsSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const slow, quick = time.Second, time.Second - 1
		gate := newApplyGate(slow)
		for _, c := range []struct {
			name         string
			length, took time.Duration
		}{
			{"a quick store: in parallel", quick, quick},
			{"before it is known to be slow: still in parallel", slow, slow},
			{"a slow store: one after the other", slow, 3 * slow},
			{"those that waited when it became quick again", quick, 3 * quick},
			{"a quick store again", quick, quick},
		} {
			assert.Equal(t, c.took, transactions(t.Context(), t, gate, 3, c.length), c.name)
		}
	})
}

// A lane whose batch is dropped stops waiting for its turn, and does not keep it from the others.
func TestADroppedBatchGivesUpItsTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gate := newApplyGate(time.Second)
		transactions(t.Context(), t, gate, 1, time.Second)
		leave, err := gate.enter(t.Context())
		require.NoError(t, err)
		batchCtx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = gate.enter(batchCtx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		leave()
		assert.Equal(t, time.Duration(1), transactions(t.Context(), t, gate, 1, 1))
	})
}

// Lanes apply in parallel, and one at a time where each transaction counts as slow.
func TestLanesTakeTurns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		slowAfter time.Duration
		most      int32
	}{
		{"quick", time.Hour, 2},
		{"slow", 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newFixture(t, 4)
			var running, most atomic.Int32 // transactions
			r.store.failing(func(call string, _ int, after bool, _ *trade.Batch) error {
				switch {
				case call != "Apply":
				case after:
					running.Add(-1)
				default:
					if n := running.Add(1); n > most.Load() {
						most.Store(n) // of two that raise it, both say 2
					}
					time.Sleep(5 * time.Millisecond)
				}
				return nil
			})
			w := r.start(func(cfg *Config, _ *Deps) { cfg.Lanes, cfg.MaxPollRecords, cfg.SlowTransaction = 2, 10, c.slowAfter })
			r.eventually("both lanes have partitions", func() bool {
				return len(w.lanes[0].assigned.partitions()) == 2 && len(w.lanes[1].assigned.partitions()) == 2
			})
			r.post("first", 1)
			r.applied(1)
			r.eventually("it is known how long one takes", func() bool { return w.gate.slow.Load() == (c.most == 1) })
			r.post("T", 400)
			r.applied(401)
			w.drain()
			assert.Equal(t, c.most, most.Load())
			r.reconcile()
		})
	}
}
