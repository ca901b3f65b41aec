package server

import (
	"context"
	"time"
)

// throttleWait is how long a caller waits for its turn at most: the look-up is optional and must not delay the answer.
const throttleWait = 20 * time.Millisecond

// throttlePause is how many times as long as a look-up the pause after it is.
const throttlePause = 2

// throttle runs one look-up at a time and pauses after each: look-ups cost a store at most a third of the time of one
// caller, however many clients ask. So they cannot slow down other calls.
type throttle struct {
	turn chan time.Time // capacity 1: while none runs, holds when the next look-up may start
}

func newThrottle() *throttle {
	t := &throttle{make(chan time.Time, 1)}
	t.turn <- time.Time{}
	return t
}

// do runs lookUp when its turn comes. It returns false, without a call, if the turn does not come within throttleWait.
func (t *throttle) do(lookUp func()) bool {
	limit, cancel := context.WithTimeout(context.Background(), throttleWait)
	defer cancel()
	var from time.Time
	select {
	case from = <-t.turn:
	case <-limit.Done():
		return false
	}
	pause := time.NewTimer(time.Until(from))
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-limit.Done():
		t.turn <- from
		return false
	}
	start := time.Now()
	defer func() { // also after a panic
		t.turn <- time.Now().Add(throttlePause * time.Since(start))
	}()
	lookUp()
	return true
}
