package server

import (
	"context"
	"slices"
	"sync"
	"time"

	"tradestore/trade"
)

const (
	maxEndedIDs = 500 // requests in one read
	waitFactor  = 8   // a request is read again when it has been waited for another eighth of the time
)

// outcomeNotifier wakes the calls that wait for an outcome. One goroutine reads for all of them, many requests in one
// read: waiting costs the stores the same for one client and for a thousand. The longer a request is waited for, the
// less often it is read: with a long lag, reads that find nothing would cost more than all others.
type outcomeNotifier struct {
	pollLoop
	requests RequestStore

	mu      sync.Mutex // protects waiting
	waiting map[trade.RequestID]*waited
}

// waited is a request that someone waits for.
type waited struct {
	since, next time.Time // of the first waiter, and of the next read
	waiters     []*waiter
}

// waiter waits for the outcome of one request.
type waiter struct {
	id    trade.RequestID
	ended chan trade.RequestState // capacity 1, written once
}

func newOutcomeNotifier(cfg *Config, deps *Deps, m *metrics, closed <-chan struct{}) *outcomeNotifier {
	return &outcomeNotifier{
		pollLoop: newPollLoop(cfg, deps, m, closed, m.outcomeReads, m.outcomeErrors),
		requests: deps.Requests, waiting: map[trade.RequestID]*waited{},
	}
}

// enter waits for the outcome of a request; leave must follow.
func (n *outcomeNotifier) enter(id trade.RequestID) *waiter {
	w := &waiter{id: id, ended: make(chan trade.RequestState, 1)}
	n.mu.Lock()
	r := n.waiting[id]
	if r == nil {
		r = &waited{since: time.Now()}
		n.waiting[id] = r
	}
	r.waiters = append(r.waiters, w)
	n.mu.Unlock()
	notify(n.joined)
	return w
}

func (n *outcomeNotifier) leave(w *waiter) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.waiting[w.id]
	if r == nil {
		return
	}
	r.waiters = slices.DeleteFunc(r.waiters, func(other *waiter) bool { return other == w })
	if len(r.waiters) == 0 {
		delete(n.waiting, w.id)
	}
}

// run reads while someone waits, until closed.
func (n *outcomeNotifier) run() {
	anyone := func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.waiting) > 0
	}
	n.poll(anyone, n.round, "cannot read the outcomes that clients wait for: trying again")
}

// due returns the requests to read now, all of them after news, and says when each is due again.
func (n *outcomeNotifier) due(news bool) []trade.RequestID {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	var ids []trade.RequestID
	for id, r := range n.waiting {
		if news || !now.Before(r.next) {
			r.next = now.Add(min(now.Sub(r.since)/waitFactor, maxPollPause))
			ids = append(ids, id)
		}
	}
	return ids
}

// round reads the outcomes of the requests that are due.
func (n *outcomeNotifier) round(news bool) error {
	for ids := range slices.Chunk(n.due(news), maxEndedIDs) {
		var states []trade.RequestState
		err := n.read(func(ctx context.Context) (err error) {
			states, err = n.requests.Ended(ctx, ids)
			return err
		})
		if err != nil {
			return err
		}
		n.wake(states)
	}
	return nil
}

// wake wakes the waiters of requests that have ended.
func (n *outcomeNotifier) wake(states []trade.RequestState) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, state := range states {
		injectStatus(&state)
		if r := n.waiting[state.ID]; r != nil {
			for _, w := range r.waiters {
				w.ended <- state
			}
		}
		delete(n.waiting, state.ID) // nobody is woken twice
	}
}
