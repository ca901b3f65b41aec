package server

import "sync/atomic"

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
