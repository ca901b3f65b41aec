package program

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/internal/proc"
)

// Limits of waits for something that must happen. They are no measure of speed.
const (
	Patience  = 60 * time.Second
	exitLimit = 3 * time.Minute // longer than the longest drain
)

const tailLines = 40

// Process is a program that runs for a test. What it writes goes to a file.
type Process struct {
	*proc.Child
	Name string
	Args []string // without the program
	log  string   // path of stdout and stderr
	read int      // bytes of the log that Await has read
}

// Start starts a program in an empty folder of its own. env is its whole environment; nil is that of the test. It ends
// with the test at the latest. It fails the test when it panics or races, and its last lines are shown when the test
// fails.
func Start(t *testing.T, name, path string, env []string, args ...string) *Process {
	t.Helper()
	dir := t.TempDir()
	p := &Process{Name: name, Args: args, log: filepath.Join(dir, name+".log")}
	log, err := proc.OpenLog(p.log)
	require.NoError(t, err)
	defer log.Close() // the process has its own copy
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, log, log
	p.Child, err = proc.Start(cmd, syscall.SIGKILL)
	require.NoError(t, err)
	t.Cleanup(func() {
		p.Kill()
		p.judge(t)
	})
	return p
}

// Environment is what a program needs of the environment of the test: no setting of the caller changes what is tested.
func Environment() []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "GOCOVERDIR", "TRADESTORE_CACHE_DIR", "XDG_CACHE_HOME"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return append(env, "GORACE=halt_on_error=1")
}

// Exit waits for the end of the process and returns its exit code, -1 for a signal. One that does not end is asked for
// its goroutines.
func (p *Process) Exit(t *testing.T) int {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(exitLimit):
		_ = p.Signal(syscall.SIGQUIT) // fails only when it is gone
		<-p.Done()
		require.FailNow(t, "process does not end", "%s, pid %d:\n%s", p.Name, p.PID(), p.Output(t))
	}
	return p.State().ExitCode()
}

// Terminate sends SIGTERM and expects a clean drain.
func (p *Process) Terminate(t *testing.T) {
	t.Helper()
	require.NoError(t, p.Signal(syscall.SIGTERM))
	require.Zero(t, p.Exit(t), "%s does not drain:\n%s", p.Name, p.Tail())
}

// Output is all that the process has written.
func (p *Process) Output(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(p.log)
	require.NoError(t, err)
	return string(text)
}

// Tail returns the last lines that the process wrote.
func (p *Process) Tail() string { return proc.Tail(p.log, tailLines) }

// Await returns the next line of the log, which is JSON, with the message.
func (p *Process) Await(t *testing.T, message string) map[string]any {
	t.Helper()
	for deadline := time.Now().Add(Patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		running := p.Running() // before the look: one that has ended writes no more
		for {
			text, _, whole := strings.Cut(p.Output(t)[p.read:], "\n")
			if !whole {
				break
			}
			p.read += len(text) + 1
			var line map[string]any
			if json.Unmarshal([]byte(text), &line) == nil && line["message"] == message {
				return line
			}
		}
		require.True(t, running, "%s ended before it said %q:\n%s", p.Name, message, p.Tail())
	}
	require.FailNow(t, "waited in vain", "%s for %q:\n%s", p.Name, message, p.Tail())
	return nil
}

// judge fails the test when the process panicked or raced, whatever it answered.
func (p *Process) judge(t *testing.T) {
	t.Helper()
	said := []byte(p.Output(t))
	for _, sign := range []string{"panic: ", "DATA RACE", "fatal error: "} {
		if at := bytes.Index(said, []byte(sign)); at >= 0 {
			t.Errorf("%s wrote:\n%.4000s", p.Name, said[at:])
		}
	}
	if t.Failed() {
		t.Logf("last lines of %s:\n%s", p.Name, p.Tail())
	}
}

// Ask sends a request with a JSON body and decodes the answer, which must be JSON.
func Ask(t *testing.T, method, url, body string) (status int, answer map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { require.NoError(t, res.Body.Close()) }()
	require.NoError(t, json.NewDecoder(res.Body).Decode(&answer))
	return res.StatusCode, answer
}
