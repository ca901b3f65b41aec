package server

import (
	"context"
	"time"
)

// paceWait is how long a caller waits for its turn at most: what is looked up is an extra, and must not hold up the rest.
const throttleWait = 20 * time.Millisecond

// paceRest is how many times as long as a look-up the rest behind it is.
const throttleRest = 2

// pace lets one look-up run at a time, and rests behind each, so that they cost a store a third of the time of one caller at
// most, however many clients ask. What everyone may ask for must not slow down what the store is there for.
type throttle struct {
	turn chan time.Time // capacity 1: holds when the next look-up may begin, while none runs
}

func newThrottle() *throttle {
	p := &throttle{make(chan time.Time, 1)}
	p.turn <- time.Time{}
	return p
}

// do runs look when its turn comes, and says whether it came soon enough.
func (p *throttle) do(look func()) bool {
	soon, cancel := context.WithTimeout(context.Background(), throttleWait)
	defer cancel()
	var from time.Time
	select {
	case from = <-p.turn:
	case <-soon.Done():
		return false
	}
	rest := time.NewTimer(time.Until(from))
	defer rest.Stop()
	select {
	case <-rest.C:
	case <-soon.Done():
		p.turn <- from
		return false
	}
	began := time.Now()
	defer func() { // also behind a panic
		p.turn <- time.Now().Add(throttleRest * time.Since(began))
	}()
	look()
	return true
}
