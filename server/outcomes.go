package server

import (
	"context"
	"slices"
	"sync"

	"tradestore/trade"
)

const maxEndedIDs = 500 // requests in one read

// outcomeNotifier wakes the calls that wait for an outcome. One goroutine reads for all of them, many requests in one
// read: waiting costs the stores the same for one client and for a thousand.
type outcomeNotifier struct {
	pollLoop
	requests RequestStore

	mu      sync.Mutex // protects waiting
	waiting map[trade.RequestID][]*waiter
}

// waiter waits for the outcome of one request.
type waiter struct {
	id    trade.RequestID
	ended chan trade.RequestState // capacity 1, written once
}

func newOutcomeNotifier(cfg *Config, deps *Deps, m *metrics, closed <-chan struct{}) *outcomeNotifier {
	return &outcomeNotifier{
		pollLoop: newPollLoop(cfg, deps, m, closed, m.outcomeReads, m.outcomeErrors),
		requests: deps.Requests, waiting: map[trade.RequestID][]*waiter{},
	}
}

// enter waits for the outcome of a request; leave must follow.
func (n *outcomeNotifier) enter(id trade.RequestID) *waiter {
	w := &waiter{id: id, ended: make(chan trade.RequestState, 1)}
	n.mu.Lock()
	n.waiting[id] = append(n.waiting[id], w)
	n.mu.Unlock()
	notify(n.joined)
	return w
}

func (n *outcomeNotifier) leave(w *waiter) {
	n.mu.Lock()
	defer n.mu.Unlock()
	others := slices.DeleteFunc(n.waiting[w.id], func(other *waiter) bool { return other == w })
	if len(others) == 0 {
		delete(n.waiting, w.id)
	} else {
		n.waiting[w.id] = others
	}
}

// run reads while someone waits, until closed.
func (n *outcomeNotifier) run() {
	anyone := func() bool { return len(n.ids()) > 0 }
	n.poll(anyone, n.round, "cannot read the outcomes that clients wait for: trying again")
}

// ids returns the requests that someone waits for.
func (n *outcomeNotifier) ids() []trade.RequestID {
	n.mu.Lock()
	defer n.mu.Unlock()
	ids := make([]trade.RequestID, 0, len(n.waiting))
	for id := range n.waiting {
		ids = append(ids, id)
	}
	return ids
}

// round reads the outcomes of all requests that someone waits for.
func (n *outcomeNotifier) round() error {
	for ids := range slices.Chunk(n.ids(), maxEndedIDs) {
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
		for _, w := range n.waiting[state.ID] {
			w.ended <- state
		}
		delete(n.waiting, state.ID) // nobody is woken twice
	}
}
