package main

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/teststack"
)

// patience bounds every wait for something that must happen. It is no measure of speed.
const patience = 60 * time.Second

// productionBinary is built once, beside the test binary, which `go test` deletes when it ends.
var productionBinary = sync.OnceValues(func() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(self), "tradestore-production")
	args := []string{"build", "-tags", "production", "-o", path}
	if os.Getenv("GOCOVERDIR") != "" { // what the processes cover counts too
		args = append(args, "-cover", "-coverpkg=./...")
	}
	build := exec.Command("go", append(args, ".")...)
	build.Stderr = os.Stderr
	return path, build.Run()
})

// roleProcess is a role that runs as a process of its own.
type roleProcess struct {
	cmd   *exec.Cmd
	lines chan map[string]any // of its log; closed at the end
	seen  []map[string]any    // taken from lines
}

func startProcess(t *testing.T, args ...string) *roleProcess {
	t.Helper()
	path, err := productionBinary()
	require.NoError(t, err)
	return startBinary(t, path, nil, args...)
}

// startBinary starts a role as it was built for an image. env is its whole environment; nil is that of the test.
func startBinary(t *testing.T, path string, env []string, args ...string) *roleProcess {
	t.Helper()
	p := &roleProcess{cmd: exec.Command(path, args...), lines: make(chan map[string]any, 1000)}
	p.cmd.Env = env
	log, err := p.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	go func() {
		defer close(p.lines)
		for text := bufio.NewScanner(log); text.Scan(); {
			line := map[string]any{"text": text.Text()}
			_ = json.Unmarshal(text.Bytes(), &line) // a line that is no JSON stays text
			p.lines <- line
		}
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // unless it has ended
		for line := range p.lines {
			p.seen = append(p.seen, line)
		}
		_ = p.cmd.Wait()
		if t.Failed() {
			t.Log(args[0], p.seen)
		}
	})
	return p
}

// await returns the next line of the log with the message.
func (p *roleProcess) await(t *testing.T, message string) map[string]any {
	t.Helper()
	for limit := time.After(patience); ; {
		select {
		case line, more := <-p.lines:
			require.True(t, more, "ended before it said %q", message)
			p.seen = append(p.seen, line)
			if line["message"] == message {
				return line
			}
		case <-limit:
			require.Fail(t, "waited in vain for "+message)
		}
	}
}

// end reads the log to its end and returns how the process ended.
func (p *roleProcess) end(t *testing.T) *os.ProcessState {
	t.Helper()
	for line := range p.lines {
		p.seen = append(p.seen, line)
	}
	_ = p.cmd.Wait() // the state tells more than the error
	return p.cmd.ProcessState
}

func ask(t *testing.T, method, url, body string) (status int, answer map[string]any) {
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

// The binary as it is shipped: migrate, then server and worker apart, a trade, a signal, exit code 0.
func TestRolesAsProcesses(t *testing.T) {
	t.Setenv("TRADESTORE_DATABASE_URL", teststack.Database(t))
	t.Setenv("TRADESTORE_KAFKA_BROKERS", strings.Join(teststack.Kafka(t), ","))
	t.Setenv("TRADESTORE_PARTITIONS", "3")
	t.Setenv("TRADESTORE_LISTEN", "127.0.0.1:0")
	t.Setenv("TRADESTORE_LOG_FORMAT", "json")

	t.Setenv("TRADESTORE_PROFILE", "single")
	require.Equal(t, exitDone, startProcess(t, "migrate").end(t).ExitCode())
	server := startProcess(t, "server")
	worker := startProcess(t, "worker")
	settings, ok := server.await(t, "starting")["settings"].(map[string]any)
	require.True(t, ok)
	require.Contains(t, settings["database-url"], ":xxxxx@")
	api := "http://" + server.await(t, "listening")["address"].(string)
	probes := "http://" + worker.await(t, "listening")["address"].(string)
	server.await(t, "accepting trades")

	const body = `{"trade_id":"T1","version":1,"counterparty_id":"CP-1","book_id":"B1","maturity_date":"9998-12-31","created_date":"2026-01-02"}`
	status, answer := ask(t, http.MethodPost, api+"/api/v1/trades", body)
	require.Equal(t, http.StatusAccepted, status, answer)
	id := answer["request_id"].(string)
	require.Eventually(t, func() bool {
		_, answer = ask(t, http.MethodGet, api+"/api/v1/requests/"+id, "")
		return answer["status"] == "SUCCESS"
	}, patience, 50*time.Millisecond)
	status, _ = ask(t, http.MethodGet, probes+"/readyz", "")
	require.Equal(t, http.StatusOK, status)

	for _, p := range []*roleProcess{server, worker} {
		require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
		require.Equal(t, exitDone, p.end(t).ExitCode())
		require.Equal(t, "stopped after a clean drain", p.seen[len(p.seen)-1]["message"])
	}
}

// A drain that takes too long for whoever waits is ended by a second signal.
func TestASecondSignalEndsTheProcessAtOnce(t *testing.T) {
	server := startProcess(t, "server", "--database-url", goodURL, "--kafka-brokers", "127.0.0.1:1", "--listen", "127.0.0.1:0",
		"--log-format", "json", "--drain-delay", "10m", "--drain-timeout", "20m")
	server.await(t, "listening")
	require.NoError(t, server.cmd.Process.Signal(syscall.SIGINT))
	server.await(t, "draining")
	require.NoError(t, server.cmd.Process.Signal(syscall.SIGTERM))
	ended, ok := server.end(t).Sys().(syscall.WaitStatus)
	require.True(t, ok)
	require.True(t, ended.Signaled(), "not by an exit of its own")
	require.Equal(t, syscall.SIGTERM, ended.Signal())
}
