//go:build failpoint

package failpoint

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// TRADESTORE_FAILPOINT=name:n kills the process with SIGKILL when it passes the line of that name for the n-th time.
// TRADESTORE_INJECT_FAULT=name:n injects the fault of that name every n-th time.
var (
	deadly   = parse("TRADESTORE_FAILPOINT", "beforeCommit:3")
	injected = parse("TRADESTORE_INJECT_FAULT", "dropRecord:1000")
)

// point is a named line, with the count of a setting and the number of times that the line was passed.
type point struct {
	name   string
	count  int64
	passed atomic.Int64
}

func parse(variable, like string) *point {
	s := os.Getenv(variable)
	name, n, ok := strings.Cut(s, ":")
	count, err := strconv.ParseInt(n, 10, 64)
	if s != "" && (!ok || err != nil || count < 1) {
		panic(variable + " must look like " + like)
	}
	return &point{name: name, count: count}
}

// Here kills the process if the setting names this line and this pass.
func Here(at string) {
	if at == deadly.name && deadly.passed.Add(1) == deadly.count {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal ends the process before this goroutine runs on
	}
}

// Injected says whether to inject the fault of that name now.
func Injected(fault string) bool {
	return fault == injected.name && injected.passed.Add(1)%injected.count == 0
}
