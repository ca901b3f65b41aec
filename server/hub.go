package server

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"tradestore/telemetry"
	"tradestore/trade"
)

// The pace of the hub: a read costs the request log at most a fifth of the time of one connection.
const (
	hubPause    = 20 * time.Millisecond // between two reads, at least
	hubPauses   = time.Second           // at most, and after a read that failed
	hubRest     = 4                     // pauses are that many times as long as the read before
	endedAtOnce = 500                   // requests in one read
)

// hub tells those who wait for the end of a request. One goroutine reads for all of them, many requests at a time: waiting
// costs the stores the same for one client and for a thousand. Where a worker of the same process shows outcomes, it says
// so, and the next read follows at once.
type hub struct {
	requests RequestLog
	timeout  time.Duration // of one read
	m        *metrics
	log      zerolog.Logger

	arrived chan struct{} // capacity 1: someone waits who did not
	shown   chan struct{} // capacity 1: there are outcomes that were not there
	closed  chan struct{}
	close   func() // ends every wait, now and later; may be repeated

	mu      sync.Mutex // protects waiting
	waiting map[trade.RequestID][]*waiter
}

// waiter waits for the end of one request.
type waiter struct {
	id    trade.RequestID
	ended chan trade.RequestState // capacity 1, written once
}

func newHub(cfg *Config, requests RequestLog, m *metrics, log zerolog.Logger) *hub {
	h := &hub{
		requests: requests, timeout: cfg.StoreTimeout, m: m, log: telemetry.Sampled(log), arrived: make(chan struct{}, 1),
		shown: make(chan struct{}, 1), closed: make(chan struct{}), waiting: map[trade.RequestID][]*waiter{},
	}
	h.close = sync.OnceFunc(func() { close(h.closed) })
	return h
}

// enter waits for the end of a request; leave must follow.
func (h *hub) enter(id trade.RequestID) *waiter {
	w := &waiter{id: id, ended: make(chan trade.RequestState, 1)}
	h.mu.Lock()
	h.waiting[id] = append(h.waiting[id], w)
	h.mu.Unlock()
	notify(h.arrived)
	return w
}

func (h *hub) leave(w *waiter) {
	h.mu.Lock()
	defer h.mu.Unlock()
	kept := h.waiting[w.id][:0]
	for _, other := range h.waiting[w.id] {
		if other != w {
			kept = append(kept, other)
		}
	}
	if len(kept) == 0 {
		delete(h.waiting, w.id)
	} else {
		h.waiting[w.id] = kept
	}
}

// run reads while someone waits, until close.
func (h *hub) run() {
	pause := hubPause
	for {
		ids := h.ids()
		if len(ids) == 0 {
			select {
			case <-h.arrived:
			case <-h.closed:
				return
			}
			continue
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-h.shown:
		case <-h.closed:
			return
		}
		timer.Stop()
		began := time.Now()
		err := h.tell(h.ids())
		pause = min(max(hubRest*time.Since(began), hubPause), hubPauses)
		if err != nil {
			pause = hubPauses
			h.m.hubErrors.Inc()
			h.log.Warn().Err(err).Int("requests", len(ids)).Msg("cannot read the ends that clients wait for: trying again")
		}
	}
}

func (h *hub) ids() []trade.RequestID {
	h.mu.Lock()
	defer h.mu.Unlock()
	ids := make([]trade.RequestID, 0, len(h.waiting))
	for id := range h.waiting {
		ids = append(ids, id)
	}
	return ids
}

// tell reads which of the requests have ended and tells who waits for them. A panic in a store is an error of this read.
func (h *hub) tell(ids []trade.RequestID) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			h.m.panics.Inc()
			err = fmt.Errorf("panic: %v\n%s", cause, debug.Stack())
		}
	}()
	for len(ids) > 0 {
		part := ids[:min(len(ids), endedAtOnce)]
		ids = ids[len(part):]
		if err := h.tellSome(part); err != nil {
			return err
		}
	}
	return nil
}

func (h *hub) tellSome(ids []trade.RequestID) error {
	ctx, cancel := context.WithTimeout(context.Background(), h.timeout)
	defer cancel()
	began := time.Now()
	states, err := h.requests.Ended(ctx, ids)
	h.m.hubReads.Observe(time.Since(began).Seconds())
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, state := range states {
		plantStatus(&state)
		for _, w := range h.waiting[state.ID] {
			w.ended <- state
		}
		delete(h.waiting, state.ID) // nobody is told twice
	}
	return nil
}

// notify fills a channel of capacity 1: whoever reads it later knows that something has happened since.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// places bounds how many of something there are at once. The zero value has none.
type places struct {
	limit int64
	taken atomic.Int64
}

// take says whether there was a place; give must follow then.
func (p *places) take() bool {
	if p.taken.Add(1) > p.limit {
		p.taken.Add(-1)
		return false
	}
	return true
}

func (p *places) give() { p.taken.Add(-1) }

func (p *places) count() int { return int(p.taken.Load()) }
