package server

import (
	"strconv"
	"time"

	"tradestore/trade"
)

// peerCheck is how often a waiting call checks that its client is still connected.
const peerCheck = time.Second

// wait waits for the outcome of a request as long as the client prefers (RFC 7240, section 4.3), counted from the
// arrival of the call, at most MaxWait. The handler is parked and holds no thread; the body of the request is released
// first. Without the preference, without a free slot (MaxWaiters) and in a drain it returns at once, and the answer has
// no Preference-Applied. It ends early in a drain and when the client has left.
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
	defer s.observe.waited(c, time.Now())

	w := s.outcomes.enter(id)
	defer s.outcomes.leave(w)
	timeout := time.NewTimer(time.Until(c.start.Add(time.Duration(seconds) * time.Second)))
	defer timeout.Stop()
	check := time.NewTicker(peerCheck)
	defer check.Stop()
	for {
		select {
		case state = <-w.ended:
			s.m.waits[waitEnded].Inc()
			return state, true
		case <-timeout.C:
			s.m.waits[waitTimeout].Inc()
			return state, false
		case <-s.waitsOver:
			s.m.waits[waitDrained].Inc()
			return state, false
		case <-check.C:
			if open, ok := c.ctx.Conn().(*conn); ok && open.peerClosed() {
				s.m.waits[waitPeerClosed].Inc()
				return state, false
			}
		}
	}
}

// OutcomesShown says that clients can read new outcomes. A worker in the same process calls it, so that the next read
// follows at once. It does not block.
func (s *Server) OutcomesShown() {
	notify(s.outcomes.news)
	notify(s.follower.news)
}
