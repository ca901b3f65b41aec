//go:build failpoint

package failpoint

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// TRADESTORE_FAILPOINT=name:n kills the process with SIGKILL, the n-th time that it passes the line of that name.
var (
	name, count = parse(os.Getenv("TRADESTORE_FAILPOINT"))
	passed      atomic.Int64
)

func parse(s string) (string, int64) {
	name, n, ok := strings.Cut(s, ":")
	count, err := strconv.ParseInt(n, 10, 64)
	if s != "" && (!ok || err != nil || count < 1) {
		panic("TRADESTORE_FAILPOINT must look like beforeCommit:3")
	}
	return name, count
}

// Here ends the process if this is the line and the pass that were asked for.
func Here(at string) {
	if at == name && passed.Add(1) == count {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal ends the process before this goroutine runs on
	}
}
