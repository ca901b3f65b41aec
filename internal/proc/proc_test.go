package proc

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	_ "tradestore/test/cleanenv"
)

const patience = time.Minute // for what must happen; no measure of speed

// shell starts a script and waits until it has made the file "up".
func shell(t *testing.T, script string) *Child {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Dir = t.TempDir()
	c, err := Start(cmd, syscall.SIGKILL)
	require.NoError(t, err)
	t.Cleanup(c.Kill)
	require.Eventually(t, func() bool {
		_, err := os.Stat(filepath.Join(cmd.Dir, "up"))
		return err == nil
	}, patience, time.Millisecond)
	return c
}

func TestChildEnds(t *testing.T) {
	t.Parallel()
	c := shell(t, "trap 'exit 3' TERM; touch up; while :; do sleep 0.01; done")
	require.True(t, c.Running())
	require.NotEmpty(t, CommandLine(c.PID()))
	require.NoError(t, c.Signal(syscall.SIGSTOP))
	require.True(t, c.Stop(patience), "also a frozen process takes SIGTERM")
	require.False(t, c.Running())
	<-c.Done()
	require.ErrorContains(t, c.Err(), "exit status 3")
	require.Equal(t, 3, c.State().ExitCode())
	require.Error(t, c.Signal(syscall.SIGTERM))
	require.True(t, c.Stop(patience), "again is harmless")
	c.Kill()

	c = shell(t, "trap '' TERM; touch up; while :; do sleep 0.01; done")
	require.False(t, c.Stop(time.Millisecond))
	require.ErrorContains(t, c.Err(), "signal: killed")

	_, err := Start(exec.Command("/nowhere/program"), syscall.SIGKILL)
	require.ErrorContains(t, err, "/nowhere/program")
}

func TestRunEndsAllThatItStarted(t *testing.T) {
	t.Parallel()
	out, err := Run(t.Context(), exec.Command("/bin/sh", "-c", "echo one; echo two >&2"), syscall.SIGKILL)
	require.NoError(t, err)
	require.Equal(t, "one\ntwo\n", out)
	out, err = Run(t.Context(), exec.Command("/bin/sh", "-c", "echo why; exit 1"), syscall.SIGKILL)
	require.ErrorContains(t, err, "exit status 1")
	require.Equal(t, "why\n", out)

	// The grandchild holds the output open: Run returns only when it is gone too.
	ctx, cancel := context.WithCancelCause(t.Context())
	cmd := exec.Command("/bin/sh", "-c", "sleep 600 & touch up; wait")
	cmd.Dir = t.TempDir()
	go func() {
		for {
			if _, err := os.Stat(filepath.Join(cmd.Dir, "up")); err == nil {
				cancel(os.ErrDeadlineExceeded)
				return
			}
		}
	}()
	_, err = Run(ctx, cmd, syscall.SIGKILL)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

func TestLogIsAppendedTo(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	for _, text := range []string{"one\ntwo\n", "three\n"} {
		log, err := OpenLog(path)
		require.NoError(t, err)
		_, err = log.WriteString(text)
		require.NoError(t, err)
		require.NoError(t, log.Close())
	}
	require.Equal(t, "two\nthree", Tail(path, 2))
	require.Equal(t, "one\ntwo\nthree", Tail(path, 5))
	require.Contains(t, Tail(path+".missing", 5), "no such file")
	_, err := OpenLog(filepath.Join(path, "below a file"))
	require.ErrorContains(t, err, "cannot open log")
}

func TestLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := Lock(path)
	require.NoError(t, err)
	_, err = Lock(path)
	require.ErrorIs(t, err, ErrLocked)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = WaitLock(ctx, path)
	require.ErrorIs(t, err, ErrLocked)
	require.ErrorIs(t, err, context.Canceled)

	waited := make(chan error)
	go func() {
		unlock, err := WaitLock(t.Context(), path)
		if err == nil {
			unlock()
		}
		waited <- err
	}()
	unlock()
	require.NoError(t, <-waited)
	for _, lock := range []func() (func(), error){
		func() (func(), error) { return Lock(filepath.Join(path, "below a file")) },
		func() (func(), error) { return WaitLock(t.Context(), filepath.Join(path, "below a file")) },
	} {
		_, err = lock()
		require.ErrorContains(t, err, "cannot lock")
	}
}

func listen(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().(*net.TCPAddr).Port
}

func TestChoosePort(t *testing.T) {
	t.Parallel()
	note := filepath.Join(t.TempDir(), "port")
	first, err := ChoosePort(0, note)
	require.NoError(t, err)
	require.Less(t, first, 32_768)
	again, err := ChoosePort(0, note)
	require.NoError(t, err)
	require.Equal(t, first, again, "kept")

	taken := listen(t)
	require.NoError(t, os.WriteFile(note, []byte(strconv.Itoa(taken)), 0o600))
	other, err := ChoosePort(0, note)
	require.NoError(t, err)
	require.NotEqual(t, taken, other)
	require.True(t, PortIsFree(other), "a kept port that is taken is given up")

	fixed, err := ChoosePort(first, note)
	require.NoError(t, err)
	require.Equal(t, first, fixed)
	_, err = ChoosePort(taken, note)
	require.ErrorIs(t, err, ErrPortTaken)

	for _, text := range []string{"", "x", "-1", "-1 nonsense", "70000"} {
		require.NoError(t, os.WriteFile(note, []byte(text), 0o600))
		port, err := ChoosePort(0, note)
		require.NoError(t, err, text)
		require.Positive(t, port, text)
	}
	_, err = ChoosePort(0, filepath.Join(note, "below a file"))
	require.ErrorContains(t, err, "cannot note the port")
}

func TestFreePortsDiffer(t *testing.T) {
	t.Parallel()
	seen := map[int]bool{}
	for range 100 {
		port, err := FreePort()
		require.NoError(t, err)
		require.False(t, seen[port])
		seen[port] = true
	}
}

func TestCacheFolder(t *testing.T) {
	f := func(variable, home, want string) {
		t.Helper()
		t.Setenv("TRADESTORE_CACHE_DIR", variable)
		t.Setenv("XDG_CACHE_HOME", "")
		t.Setenv("HOME", home)
		dir, err := CacheDir("jars")
		if want == "" {
			assert.ErrorContains(t, err, "set TRADESTORE_CACHE_DIR")
			return
		}
		require.NoError(t, err)
		assert.Equal(t, want, dir)
	}
	f("/c", "/home/h", "/c/jars")
	f("", "", "")
	t.Setenv("HOME", "/home/h")
	user, err := os.UserCacheDir()
	require.NoError(t, err)
	f("", "/home/h", filepath.Join(user, "tradestore", "jars"))
}
