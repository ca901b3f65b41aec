package loadtest

import (
	"context"
	"time"
)

const (
	// Go timers of an idle process fire up to a millisecond late, as long as a fast server takes to answer. So the last
	// part of a wait is a sleep in the kernel, which is several times more exact but costs CPU: see BenchmarkGenerators.
	timerSlack = 2 * time.Millisecond
	// minSleep limits how often a high rate wakes the generator: it sends in bursts.
	minSleep = 400 * time.Microsecond
)

// waitUntil waits until a time of the attack. It returns false as soon as ctx ends.
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
