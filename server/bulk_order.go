package server

import "sync"

// turns keep the records of one trade in the order of the request that brought them. The queue has this order, but its
// flushes overtake each other: a submission is produced when each one before it was handed to the producer, which keeps the
// order from there, or never will be. Those are in the same flush or in one that began earlier, so nobody waits in a circle,
// and as long as a store is slow at most.
type turns struct {
	mu     sync.Mutex // protects what follows
	moved  sync.Cond  // signalled when next grows
	passed []bool     // by place
	next   int        // all places before it have passed
}

// turn is the place of a submission among those of its trade. Nil is alone.
type turn struct {
	of    *turns
	place int
}

// takeTurns is called before line is admitted, in this order.
func takeTurns(line []*submission) {
	firsts := make(map[string]*submission, len(line))
	for _, s := range line {
		id := s.req.Trade.TradeID
		first := firsts[id]
		if first == nil {
			firsts[id] = s
			continue
		}
		if first.turn == nil {
			of := &turns{passed: make([]bool, 1)}
			of.moved.L = &of.mu
			first.turn = &turn{of: of}
		}
		of := first.turn.of
		s.turn = &turn{of: of, place: len(of.passed)}
		of.passed = append(of.passed, false)
	}
}

// hasCome says whether nobody is before t any more.
func (t *turn) hasCome() bool {
	if t == nil {
		return true
	}
	t.of.mu.Lock()
	defer t.of.mu.Unlock()
	return t.of.next >= t.place
}

// wait returns when nobody is before t any more.
func (t *turn) wait() {
	t.of.mu.Lock()
	defer t.of.mu.Unlock()
	for t.of.next < t.place {
		t.of.moved.Wait()
	}
}

// pass lets the next one go, once those before t have passed as well. Repeating it is safe.
func (t *turn) pass() {
	if t == nil {
		return
	}
	o := t.of
	o.mu.Lock()
	defer o.mu.Unlock()
	o.passed[t.place] = true
	for o.next < len(o.passed) && o.passed[o.next] {
		o.next++
	}
	o.moved.Broadcast()
}
