package server

import (
	"strconv"
	"time"

	"tradestore/trade"
)

// lookForClient is how often a waiting call looks whether its client is still there.
const peerCheck = time.Second

// wait lets the call wait for the end of a request as long as its client prefers (RFC 7240, section 4.3), counted from
// the arrival of the call, at most for the setting max-wait. The handler is parked and holds no thread; the body of the
// request is given back first. Without the preference, without a place (setting max-waiters) and in a drain it returns at
// once and nothing says that the preference was applied. In a drain, and when the client has left, it ends early.
func (s *Server) wait(c *call, id trade.RequestID) (state trade.RequestState, ended bool) {
	if c.head.wait == 0 {
		return state, false
	}
	if s.draining.Load() {
		s.m.waits[waitDrained].Inc()
		return state, false
	}
	if !s.waits.acquire() {
		s.m.waits[waitRefused].Inc()
		return state, false
	}
	defer s.waits.release()
	seconds := min(c.head.wait, int(s.cfg.MaxWait/time.Second))
	c.ctx.Response.Header.Set(headerApplied, "wait="+strconv.Itoa(seconds))
	c.ctx.Request.ResetBody()
	began := time.Now()
	defer func() {
		c.waited = time.Since(began)
		if c.span != nil {
			s.tracer.Record(c.span.SpanContext(), spanWait, began, time.Now(), nil)
		}
	}()

	w := s.outcomes.enter(id)
	defer s.outcomes.leave(w)
	timeout := time.NewTimer(time.Until(c.start.Add(time.Duration(seconds) * time.Second)))
	defer timeout.Stop()
	look := time.NewTicker(peerCheck)
	defer look.Stop()
	for {
		select {
		case state = <-w.ended:
			s.m.waits[waitEnded].Inc()
			return state, true
		case <-timeout.C:
			s.m.waits[waitTimeout].Inc()
			return state, false
		case <-s.outcomes.closed:
			s.m.waits[waitDrained].Inc()
			return state, false
		case <-look.C:
			if open, ok := c.ctx.Conn().(*conn); ok && open.peerClosed() {
				s.m.waits[waitPeerClosed].Inc()
				return state, false
			}
		}
	}
}

// OutcomesShown says that clients can read outcomes that they could not read before. It is for a worker in the same
// process, spares those who wait a part of the pause between two reads, and returns at once.
func (s *Server) OutcomesShown() {
	notify(s.outcomes.shown)
	notify(s.follower.shown)
}
