package server

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"tradestore/internal/telemetry"
	"tradestore/trade"
)

const endedAtOnce = 500 // requests in one read

// outcomeNotifier tells those who wait for the end of a request. One goroutine reads for all of them, many requests at a time: waiting
// costs the stores the same for one client and for a thousand. Where a worker of the same process shows outcomes, it says
// so, and the next read follows at once.
type outcomeNotifier struct {
	journalPoller
	requests RequestStore
	timeout  time.Duration // of one read
	log      zerolog.Logger
	close    func() // ends every wait, now and later; may be repeated

	mu      sync.Mutex // protects waiting
	waiting map[trade.RequestID][]*waiter
}

// waiter waits for the end of one request.
type waiter struct {
	id    trade.RequestID
	ended chan trade.RequestState // capacity 1, written once
}

func newOutcomeNotifier(cfg *Config, requests RequestStore, m *metrics, log zerolog.Logger) *outcomeNotifier {
	closed := make(chan struct{})
	return &outcomeNotifier{
		journalPoller: newJournalPoller(closed, m), requests: requests, timeout: cfg.StoreTimeout, log: telemetry.Sampled(log),
		close: sync.OnceFunc(func() { close(closed) }), waiting: map[trade.RequestID][]*waiter{},
	}
}

// enter waits for the end of a request; leave must follow.
func (h *outcomeNotifier) enter(id trade.RequestID) *waiter {
	w := &waiter{id: id, ended: make(chan trade.RequestState, 1)}
	h.mu.Lock()
	h.waiting[id] = append(h.waiting[id], w)
	h.mu.Unlock()
	notify(h.arrived)
	return w
}

func (h *outcomeNotifier) leave(w *waiter) {
	h.mu.Lock()
	defer h.mu.Unlock()
	kept := slices.DeleteFunc(h.waiting[w.id], func(other *waiter) bool { return other == w })
	if len(kept) == 0 {
		delete(h.waiting, w.id)
	} else {
		h.waiting[w.id] = kept
	}
}

// run reads while someone waits, until close.
func (h *outcomeNotifier) run() {
	h.poll(func() bool { return len(h.ids()) > 0 }, h.notify, func(err error) {
		h.m.outcomeErrors.Inc()
		h.log.Warn().Err(err).Int("requests", len(h.ids())).Msg("cannot read the ends that clients wait for: trying again")
	})
}

func (h *outcomeNotifier) ids() []trade.RequestID {
	h.mu.Lock()
	defer h.mu.Unlock()
	ids := make([]trade.RequestID, 0, len(h.waiting))
	for id := range h.waiting {
		ids = append(ids, id)
	}
	return ids
}

// tell reads which requests have ended and tells who waits for them.
func (h *outcomeNotifier) notify() error {
	for part := range slices.Chunk(h.ids(), endedAtOnce) {
		if err := h.notifySome(part); err != nil {
			return err
		}
	}
	return nil
}

func (h *outcomeNotifier) notifySome(ids []trade.RequestID) error {
	ctx, cancel := context.WithTimeout(context.Background(), h.timeout)
	defer cancel()
	began := time.Now()
	states, err := h.requests.Ended(ctx, ids)
	h.m.outcomeReads.Observe(time.Since(began).Seconds())
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, state := range states {
		injectStatus(&state)
		for _, w := range h.waiting[state.ID] {
			w.ended <- state
		}
		delete(h.waiting, state.ID) // nobody is told twice
	}
	return nil
}

// places bounds how many of something there are at once. The zero value has none.
type slots struct {
	limit int64
	taken atomic.Int64
}

// take says whether there was a place; give must follow then.
func (p *slots) acquire() bool {
	if p.taken.Add(1) > p.limit {
		p.taken.Add(-1)
		return false
	}
	return true
}

func (p *slots) release() { p.taken.Add(-1) }

func (p *slots) count() int { return int(p.taken.Load()) }
