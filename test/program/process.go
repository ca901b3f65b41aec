package program

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Patience bounds every wait for something that must happen. It is no measure of speed.
const Patience = 60 * time.Second

// Process is a role that runs as a process of its own.
type Process struct {
	Cmd   *exec.Cmd
	lines chan map[string]any // of its log; closed at the end
	Seen  []map[string]any    // taken from lines
}

// Start starts a role as it was built for an image. env is its whole environment; nil is that of the test.
func Start(t *testing.T, path string, env []string, args ...string) *Process {
	t.Helper()
	p := &Process{Cmd: exec.Command(path, args...), lines: make(chan map[string]any, 1000)}
	p.Cmd.Env = env
	log, err := p.Cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, p.Cmd.Start())
	go func() {
		defer close(p.lines)
		for text := bufio.NewScanner(log); text.Scan(); {
			line := map[string]any{"text": text.Text()}
			_ = json.Unmarshal(text.Bytes(), &line) // a line that is no JSON stays text
			p.lines <- line
		}
	}()
	t.Cleanup(func() {
		_ = p.Cmd.Process.Kill() // unless it has ended
		for line := range p.lines {
			p.Seen = append(p.Seen, line)
		}
		_ = p.Cmd.Wait()
		if t.Failed() {
			t.Log(args[0], p.Seen)
		}
	})
	return p
}

// Await returns the next line of the log with the message.
func (p *Process) Await(t *testing.T, message string) map[string]any {
	t.Helper()
	for limit := time.After(Patience); ; {
		select {
		case line, more := <-p.lines:
			require.True(t, more, "ended before it said %q", message)
			p.Seen = append(p.Seen, line)
			if line["message"] == message {
				return line
			}
		case <-limit:
			require.Fail(t, "waited in vain for "+message)
		}
	}
}

// End reads the log to its end and returns how the process ended.
func (p *Process) End(t *testing.T) *os.ProcessState {
	t.Helper()
	for line := range p.lines {
		p.Seen = append(p.Seen, line)
	}
	_ = p.Cmd.Wait() // the state tells more than the error
	return p.Cmd.ProcessState
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
