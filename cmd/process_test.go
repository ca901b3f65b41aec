package cmd

import (
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/test/program"
	"tradestore/test/stack"
)

// The binary as it is shipped: migrate, then server and worker apart, a trade, a signal, exit code 0.
func TestRolesAsProcesses(t *testing.T) {
	t.Setenv("TRADESTORE_DATABASE_URL", stack.Database(t))
	t.Setenv("TRADESTORE_KAFKA_BROKERS", strings.Join(stack.Kafka(t), ","))
	t.Setenv("TRADESTORE_PARTITIONS", "3")
	t.Setenv("TRADESTORE_LISTEN", "127.0.0.1:0")
	t.Setenv("TRADESTORE_LOG_FORMAT", "json")

	t.Setenv("TRADESTORE_PROFILE", "single")
	start := func(role string) *program.Process {
		t.Helper()
		return program.Start(t, role, program.Build(t, "production"), nil, role)
	}
	require.Equal(t, exitDone, start("migrate").Exit(t))
	server, worker := start("server"), start("worker")
	settings, ok := server.Await(t, "starting")["settings"].(map[string]any)
	require.True(t, ok)
	require.Contains(t, settings["database-url"], ":xxxxx@")
	api := "http://" + server.Await(t, "listening")["address"].(string)
	probes := "http://" + worker.Await(t, "listening")["address"].(string)
	server.Await(t, "accepting trades")

	status, answer := program.Ask(t, http.MethodPost, api+"/api/v1/trades", tradeJSON("T1", 1))
	require.Equal(t, http.StatusAccepted, status, answer)
	id := answer["request_id"].(string)
	require.Eventually(t, func() bool {
		_, answer = program.Ask(t, http.MethodGet, api+"/api/v1/requests/"+id, "")
		return answer["status"] == "SUCCESS"
	}, patience, 50*time.Millisecond)
	status, _ = program.Ask(t, http.MethodGet, probes+"/readyz", "")
	require.Equal(t, http.StatusOK, status)

	for _, p := range []*program.Process{server, worker} {
		p.Terminate(t)
		lines := strings.Split(strings.TrimSpace(p.Output(t)), "\n")
		require.Contains(t, lines[len(lines)-1], `"message":"stopped after a clean drain"`)
	}
}

// A drain that takes too long for whoever waits is ended by a second signal.
func TestASecondSignalEndsTheProcessAtOnce(t *testing.T) {
	server := program.Start(t, "server", program.Build(t, "production"), nil, "server", "--database-url", goodURL,
		"--kafka-brokers", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--log-format", "json",
		"--drain-delay", "10m", "--drain-timeout", "20m")
	server.Await(t, "listening")
	require.NoError(t, server.Signal(syscall.SIGINT))
	server.Await(t, "draining")
	require.NoError(t, server.Signal(syscall.SIGTERM))
	ended, ok := server.State().Sys().(syscall.WaitStatus)
	require.True(t, ok)
	require.True(t, ended.Signaled(), "not by an exit of its own")
	require.Equal(t, syscall.SIGTERM, ended.Signal())
}
