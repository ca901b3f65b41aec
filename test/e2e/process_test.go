package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// exitLimit bounds every wait for an exit. It is longer than the longest drain.
const exitLimit = 3 * time.Minute

// process is one running program whose output goes to a file.
type process struct {
	name   string
	cmd    *exec.Cmd
	output string        // path of stdout and stderr
	exited chan struct{} // closed after the exit; cmd.ProcessState is set then
}

// launch starts a program with a clean environment plus env. It ends with the test at the latest, and what it wrote is
// shown if the test failed.
func launch(t *testing.T, name, path string, env []string, args ...string) *process {
	t.Helper()
	p := &process{name: name, cmd: exec.Command(path, args...), output: filepath.Join(t.TempDir(), name+".log"), exited: make(chan struct{})}
	out, err := os.Create(p.output)
	require.NoError(t, err)
	defer out.Close() // the process has its own copy
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Dir = filepath.Dir(p.output)
	p.cmd.Env = append(environment(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{}
	dieWithTest(p.cmd.SysProcAttr)
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the kernel watches the thread that starts the process
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // the exit is read from ProcessState
		}
		close(p.exited)
	}()
	require.NoError(t, <-started)
	t.Cleanup(func() {
		p.kill()
		p.judge(t)
	})
	return p
}

// environment is what a program needs of the test's own: no TRADESTORE_ setting of the caller changes what is tested.
func environment() []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "GOCOVERDIR", "TRADESTORE_CACHE_DIR", "XDG_CACHE_HOME"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return append(env, "GORACE=halt_on_error=1")
}

// kill ends the process with SIGKILL and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails only when it is gone
	<-p.exited
}

// exit waits for the end of the process and returns its exit code, -1 for a signal. One that does not end is asked for
// its goroutines.
func (p *process) exit(t *testing.T) int {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(exitLimit):
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // fails only when it is gone
		<-p.exited
		require.FailNow(t, "process does not end", "%s, pid %d:\n%s", p.name, p.cmd.Process.Pid, p.said(t))
	}
	return p.cmd.ProcessState.ExitCode()
}

// terminate sends SIGTERM and expects a clean drain.
func (p *process) terminate(t *testing.T) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Zero(t, p.exit(t), "%s does not drain:\n%s", p.name, p.tail(t))
}

func (p *process) alive() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

func (p *process) said(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(p.output)
	require.NoError(t, err)
	return string(text)
}

// tail returns the last lines that the process wrote.
func (p *process) tail(t *testing.T) string {
	t.Helper()
	lines := strings.SplitAfter(p.said(t), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "")
}

// judge fails the test when the process panicked or raced, whatever it answered.
func (p *process) judge(t *testing.T) {
	t.Helper()
	said := []byte(p.said(t))
	for _, sign := range []string{"panic: ", "DATA RACE", "fatal error: "} {
		if at := bytes.Index(said, []byte(sign)); at >= 0 {
			t.Errorf("%s wrote:\n%.4000s", p.name, said[at:])
		}
	}
	if t.Failed() {
		t.Logf("last lines of %s:\n%s", p.name, p.tail(t))
	}
}
