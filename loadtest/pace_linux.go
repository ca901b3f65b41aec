package loadtest

import (
	"syscall"
	"time"
)

// nap sleeps for about d. It may return early, because of a signal.
func shortSleep(d time.Duration) {
	left := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&left, nil)
}
