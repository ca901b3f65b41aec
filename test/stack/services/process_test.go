package services

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/internal/proc"
)

func TestChildEndsWithAPanicOfItsParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ends the children of a killed process")
	}
	parent := exec.Command("/proc/self/exe")
	parent.Env = append(os.Environ(), holdVar+"="+filepath.Join(t.TempDir(), "log"))
	in, err := parent.StdinPipe()
	require.NoError(t, err)
	out, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	require.NoError(t, err)
	require.True(t, alive(pid))
	require.NoError(t, in.Close())
	require.ErrorContains(t, parent.Wait(), "exit status 2")
	require.Eventually(t, func() bool { return !alive(pid) || zombie(pid) }, time.Minute, 10*time.Millisecond)
}

// zombie says whether the process is dead and only waits for someone to ask how it ended.
func zombie(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && strings.Contains(string(text), ") Z ")
}

// process is a service without Java: a shell script that never answers, unless the test says so.
func process(t *testing.T, script string) *Process {
	t.Helper()
	port, err := proc.FreePort()
	require.NoError(t, err)
	p := &Process{name: "Script", port: port, log: filepath.Join(t.TempDir(), "log")}
	p.build = func() *exec.Cmd { return exec.Command("/bin/sh", "-c", script) }
	p.probe = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	return p
}

func TestStartThatFailsLeavesNothing(t *testing.T) {
	p := process(t, "echo ERROR no luck; echo more")
	require.ErrorContains(t, p.start(t.Context()),
		"cannot start Script: it ended by itself: exit status 0: ERROR no luck (all of it is in "+p.Log()+")")
	p.build = func() *exec.Cmd { return exec.Command("/nowhere/program") }
	require.ErrorContains(t, p.start(t.Context()), "cannot start Script: fork/exec /nowhere/program")

	p = process(t, "exec sleep 600")
	ctx, cancel := context.WithCancel(t.Context())
	p.probe = func(context.Context) error { cancel(); return context.Canceled }
	require.ErrorIs(t, p.start(ctx), context.Canceled)
	require.Zero(t, p.PID())

	p.log = filepath.Join(p.log, "below a file")
	require.ErrorContains(t, p.start(t.Context()), "cannot open log")
}

func TestLastWords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f := func(text string, since int64, want string) {
		t.Helper()
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		assert.Equal(t, want, lastWords(path, since))
	}
	f("", 0, "it said nothing")
	f("one\ntwo\n", 0, "two")
	f("ERROR of the last time\ntwo\n", 23, "two")
	f("INFO a\nERROR b\nINFO c\n", 0, "ERROR b")
	f("INFO a\nERROR b\nERROR see c\n", 0, "ERROR b")
	f("ERROR it failed\njava.lang.RuntimeException: outer\n\tat java.base\n"+
		"Caused by: java.io.IOException: root\nINFO bye\n",
		0, "Caused by: java.io.IOException: root")
	f("java.net.BindException: in use\n\tat java.base\n", 0, "java.net.BindException: in use")
	f("short", 100, "it left no log")
}
