package worker

import (
	"context"
	"sync/atomic"
	"time"
)

// turns has the lanes of a worker take turns while the store is slow. Where its bandwidth or its disk binds, transactions
// side by side end no sooner than one after the other, and leave less of it to the servers, which accept through the same store.
type applyGate struct {
	after time.Duration // a transaction that takes as long says that the store is slow
	slow  atomic.Bool   // the transaction that ended last did
	turn  chan struct{} // of length one, full while a lane has the turn
}

func newApplyGate(after time.Duration) *applyGate {
	return &applyGate{after: after, turn: make(chan struct{}, 1)}
}

// take waits for the turn while the store is slow; lanes that wait get it in the order they came. end is to be called when
// the transaction is over. Errors: ctx ended first.
func (t *applyGate) enter(ctx context.Context) (end func(), err error) {
	done := func() {}
	if t.slow.Load() {
		select {
		case t.turn <- struct{}{}:
			done = func() { <-t.turn }
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	began := time.Now()
	return func() {
		t.slow.Store(time.Since(began) >= t.after)
		done()
	}, nil
}
