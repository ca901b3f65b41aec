package worker

import (
	"context"
	"sync/atomic"
	"time"
)

// applyGate lets one transaction of the worker run at a time while the store is slow, and any number otherwise. If the
// bandwidth or the disk of the store is the limit, parallel transactions end no sooner than sequential ones, and they
// take capacity from the servers, which accept through the same store.
type applyGate struct {
	slowAfter time.Duration // a transaction that takes this long means that the store is slow
	slow      atomic.Bool   // whether the last transaction did
	turn      chan struct{} // of length one; full while a lane has its turn
}

func newApplyGate(slowAfter time.Duration) *applyGate {
	return &applyGate{slowAfter: slowAfter, turn: make(chan struct{}, 1)}
}

// enter waits until a transaction may start: not at all while the store is fast, else in the order of the calls. The
// caller must call leave at the end of the transaction. Errors: ctx ended first.
func (g *applyGate) enter(ctx context.Context) (leave func(), err error) {
	release := func() {}
	if g.slow.Load() {
		select {
		case g.turn <- struct{}{}:
			release = func() { <-g.turn }
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	began := time.Now()
	return func() {
		g.slow.Store(time.Since(began) >= g.slowAfter)
		release()
	}, nil
}
