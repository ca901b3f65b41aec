//go:build !linux

package loadtest

import "time"

// shortSleep sleeps for about d.
func shortSleep(d time.Duration) { time.Sleep(d) }
