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
// TRADESTORE_INJECT_FAULT=name:n makes it break the promise of that name every n-th time.
var (
	deadly   = parse("TRADESTORE_FAILPOINT", "beforeCommit:3")
	injected = parse("TRADESTORE_INJECT_FAULT", "dropRecord:1000")
)

// point is a named line and how often it has been passed.
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

// Here ends the process if this is the line and the pass that were asked for.
func Here(at string) {
	if at == deadly.name && deadly.passed.Add(1) == deadly.count {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal ends the process before this goroutine runs on
	}
}

// Planted says whether the promise of that name is to be broken now.
func Injected(fault string) bool {
	return fault == injected.name && injected.passed.Add(1)%injected.count == 0
}
