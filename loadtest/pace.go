package loadtest

import (
	"context"
	"time"
)

const (
	// Timers of Go fire up to a millisecond late when the process has nothing else to do, which is as much as a fast server
	// takes to answer. So the last part of a wait is a sleep of the kernel's, which is usually several times closer. It costs
	// CPU: BenchmarkGenerators shows both.
	timerSlack = 2 * time.Millisecond
	// leastNap bounds how often a high rate wakes the generator: it sends in bursts of what is due within that time.
	minSleep = 400 * time.Microsecond
)

// waitUntil returns at a time of the attack, or as soon as ctx ends, and says whether to go on.
func waitUntil(ctx context.Context, into *Results, due time.Duration) bool {
	for {
		left := due - into.Now()
		switch {
		case ctx.Err() != nil:
			return false
		case left <= 0:
			return true
		case left > timerSlack:
			Sleep(ctx, left-timerSlack)
		default:
			shortSleep(max(left, minSleep))
		}
	}
}
