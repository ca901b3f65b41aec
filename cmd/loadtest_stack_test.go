//go:build !production

package cmd

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/loadtest"
	"tradestore/test/program"
	"tradestore/test/stack"
)

// tester is `tradestore loadtest` as a process that brings its own stack, with limits that a busy machine keeps.
type tester struct {
	cmd    *exec.Cmd
	temp   string // its folder for temporary files
	stdout bytes.Buffer
	stderr *program.Buffer
}

func startTester(t *testing.T, args ...string) *tester {
	t.Helper()
	temp, err := stack.Dir() // PostgreSQL can use it whoever runs the tests
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(temp) })
	p := &tester{temp: temp, stderr: new(program.Buffer)}
	p.cmd = exec.Command(program.Build(t), append([]string{
		"loadtest", "--json", "--out", filepath.Join(t.TempDir(), "reports"), "--warmup", "1s",
		"--max-accept-p99", "1m", "--max-final-p99", "1m", "--max-error-rate", "0.5",
	}, args...)...)
	p.cmd.Env = append(os.Environ(), "TMPDIR="+temp, "TRADESTORE_LANES=1")
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, p.stderr
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // unless it has ended
		_ = p.cmd.Wait()
	})
	return p
}

// await waits for a text on standard error.
func (p *tester) await(t *testing.T, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(p.stderr.String(), text) }, 5*patience,
		10*time.Millisecond, text)
}

// end waits for the exit and returns the report. The stack and its data are gone.
func (p *tester) end(t *testing.T) *loadtest.Report {
	t.Helper()
	_ = p.cmd.Wait() // the state tells more than the error
	var r loadtest.Report
	require.NoError(t, json.Unmarshal(p.stdout.Bytes(), &r), p.stderr)
	left, err := filepath.Glob(filepath.Join(p.temp, "tradestore-loadtest-*"))
	require.NoError(t, err)
	require.Empty(t, left)
	return &r
}

func (p *tester) reports(t *testing.T) []string {
	t.Helper()
	for i, arg := range p.cmd.Args {
		if arg == "--out" {
			found, err := filepath.Glob(filepath.Join(p.cmd.Args[i+1], "*", "report.html"))
			require.NoError(t, err)
			return found
		}
	}
	return nil
}

// The command as a user gives it first: a stack of its own, nothing lost, exit code 0, only a report left behind.
func TestLoadtestOfItsOwnStack(t *testing.T) {
	var p *tester
	var r *loadtest.Report
	for range 5 { // a void run says nothing: the machine has other things to do
		p = startTester(t, "--stages", "10/1s,10..200/2s", "--seed", "7")
		if r = p.end(t); r.Verdict != loadtest.Void {
			break
		}
	}
	require.Equal(t, loadtest.Pass, r.Verdict, r.Why)
	require.Equal(t, exitDone, p.cmd.ProcessState.ExitCode())
	require.Equal(t, "HTTP and SQL", r.Reconciliation.By)
	require.Positive(t, r.Reconciliation.Success)
	require.EqualValues(t, 7, r.Seed)
	require.Equal(t, "10/1s,10..200/2s", r.Load.Schedule)
	require.Len(t, p.reports(t), 1)
	names := map[string]bool{}
	for _, s := range r.Series {
		names[s.Name] = true
	}
	for _, want := range []string{"generator CPU", "dev CPU", "dev memory", "worker lag", "lag", "server queue"} {
		require.True(t, names[want], "%s is missing in %v", want, names)
	}
	if runtime.GOOS == "linux" {
		require.True(t, names["PostgreSQL CPU"], names)
		require.True(t, names["machine CPU"], names)
	}
	require.Empty(t, r.Notes)
}

// Ctrl-C ends the load; what was accepted is compared all the same.
func TestLoadtestInterrupted(t *testing.T) {
	p := startTester(t, "--rate", "50", "--duration", "1h")
	p.await(t, "accepted")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGINT))
	r := p.end(t)
	require.Equal(t, exitFailed, p.cmd.ProcessState.ExitCode())
	require.Equal(t, loadtest.Void, r.Verdict, r.Why)
	require.Contains(t, r.Interrupted, "interrupted after")
	require.Equal(t, r.Reconciliation.Accepted, r.Reconciliation.Success+r.Reconciliation.Failed)
	require.Len(t, p.reports(t), 1)
}

// The stack is killed under load: the run fails at once, and says what it can't know.
func TestLoadtestWhoseStackIsKilled(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("finds the stack by /proc")
	}
	p := startTester(t, "--rate", "50", "--duration", "1h")
	p.await(t, "accepted")
	pid := strconv.Itoa(p.cmd.Process.Pid)
	killed := 0
	threads, err := filepath.Glob("/proc/" + pid + "/task/*/children")
	require.NoError(t, err)
	for _, children := range threads {
		text, err := os.ReadFile(children)
		require.NoError(t, err)
		for _, child := range strings.Fields(string(text)) {
			id, err := strconv.Atoi(child)
			require.NoError(t, err)
			require.NoError(t, syscall.Kill(id, syscall.SIGKILL))
			killed++
		}
	}
	require.Equal(t, 1, killed)
	r := p.end(t)
	require.Equal(t, exitFailed, p.cmd.ProcessState.ExitCode())
	require.Equal(t, loadtest.Fail, r.Verdict, r.Why)
	require.Contains(t, r.Interrupted, "the embedded stack ended (signal: killed)")
	require.Equal(t, r.Reconciliation.Accepted, r.Reconciliation.Stuck.Count, "nothing is known of them")
}
