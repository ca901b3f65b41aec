package loadtest

import (
	"syscall"
	"time"
)

// shortSleep sleeps for about d. A signal may end it early.
func shortSleep(d time.Duration) {
	left := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&left, nil)
}
