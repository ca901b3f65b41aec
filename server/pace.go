package server

import (
	"context"
	"time"
)

// paceRest is how many times as long as a look-up the rest behind it is.
const paceRest = 2

// pace lets one look-up run at a time, and rests behind each, so that they cost a store a third of the time of one caller at
// most, however many clients ask. What everyone may ask for must not slow down what the store is there for.
type pace struct {
	turn chan time.Time // capacity 1: holds when the next look-up may begin, while none runs
}

func newPace() *pace {
	p := &pace{make(chan time.Time, 1)}
	p.turn <- time.Time{}
	return p
}

// do runs look when its turn comes. Errors: ctx ended before.
func (p *pace) do(ctx context.Context, look func()) error {
	var from time.Time
	select {
	case from = <-p.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	rest := time.NewTimer(time.Until(from))
	defer rest.Stop()
	select {
	case <-rest.C:
	case <-ctx.Done():
		p.turn <- from
		return ctx.Err()
	}
	began := time.Now()
	defer func() { // also behind a panic
		p.turn <- time.Now().Add(paceRest * time.Since(began))
	}()
	look()
	return nil
}
