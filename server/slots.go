package server

import (
	"sync/atomic"
	"time"
)

// slots is a semaphore: it bounds how many of something there are at once. It never blocks.
type slots struct {
	limit int64
	taken atomic.Int64
}

// acquire says whether a slot was free; release must follow then.
func (s *slots) acquire() bool {
	if s.taken.Add(1) > s.limit {
		s.taken.Add(-1)
		return false
	}
	return true
}

func (s *slots) release() { s.taken.Add(-1) }

// count returns how many slots are taken.
func (s *slots) count() int { return int(s.taken.Load()) }

// turns is a semaphore whose callers wait for their turn, but not for long. Its capacity is its limit.
type turns chan struct{}

// take says whether the turn came within the wait; end must follow then.
func (t turns) take(wait time.Duration) bool {
	select {
	case t <- struct{}{}:
		return true
	default:
	}
	limit := time.NewTimer(wait)
	defer limit.Stop()
	select {
	case t <- struct{}{}:
		return true
	case <-limit.C:
		return false
	}
}

func (t turns) end() { <-t }

// count returns how many turns are taken.
func (t turns) count() int { return len(t) }
