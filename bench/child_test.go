package main

import (
	"io"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const patience = time.Minute // for what must happen; no measure of speed

// testHarness is a harness of one short round, stopped at the end of the test.
func testHarness(t *testing.T) *harness {
	t.Helper()
	h, err := newHarness(settings{rounds: 1, hold: 100 * time.Millisecond, connections: 8}, io.Discard)
	require.NoError(t, err)
	h.loop.connections = h.connections
	t.Cleanup(func() {
		h.stop()
		require.NoDirExists(t, h.dir)
	})
	return h
}

func (c *child) awaitEnd(t *testing.T) {
	t.Helper()
	select {
	case <-c.Done():
	case <-time.After(patience):
		require.FailNow(t, "the child does not end", c.name)
	}
}

// However this process ends, its children follow.
func TestAChildEndsWithItsParent(t *testing.T) {
	h := testHarness(t)
	c, at, err := h.self(t.Context(), "the no-op server", nil, "noop")
	require.NoError(t, err)
	require.NotEmpty(t, at.API)
	require.NoError(t, c.hold.Close())
	c.awaitEnd(t)
	_, err = get(t.Context(), "http://"+at.API)
	require.Error(t, err)
	c.stop() // of one that has ended
}

func TestAChildThatFailsSaysWhy(t *testing.T) {
	h := testHarness(t)
	_, _, err := h.self(t.Context(), "a broker", nil, "broker", onDisk, "/dev/null/nowhere")
	require.ErrorContains(t, err, "a broker does not start: ")
	require.ErrorContains(t, err, "/dev/null")

	c, err := h.start("tradestore", "/bin/sh", nil, "-c", "echo first >&2; echo out of order >&2; exit 3")
	require.NoError(t, err)
	address, err := freeAddress()
	require.NoError(t, err)
	require.ErrorContains(t, c.awaitReady(t.Context(), address), "tradestore ended before it was ready: out of order")
	_, err = h.start("no program", filepath.Join(h.dir, "none"), nil)
	require.ErrorContains(t, err, "cannot start no program")
}

func TestSettingsOfTheShellAreNotMeasured(t *testing.T) {
	t.Setenv("TRADESTORE_REQUEST_STORE", "dynamodb")
	t.Setenv("TRADESTORE_CACHE_DIR", "/cache")
	got := environment("TRADESTORE_PROFILE=single")
	require.NotContains(t, got, "TRADESTORE_REQUEST_STORE=dynamodb")
	require.Contains(t, got, "TRADESTORE_CACHE_DIR=/cache")
	require.Contains(t, got, "TRADESTORE_PROFILE=single")
}

func TestMeterTellsProcessesApart(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("processor time is read on Linux only")
	}
	h := testHarness(t)
	c, err := h.start("a shell with a child", "/bin/sh", nil, "-c",
		"trap 'kill $child' TERM; sh -c 'while :; do :; done' & child=$!; wait")
	require.NoError(t, err)
	pid := c.PID()
	m, err := newMeter([]watched{{"itself", pid, itself}, {"below", pid, below}, {"both", pid, both}})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		used, err := m.read()
		require.NoError(t, err)
		require.Equal(t, used["both"], used["itself"]+used["below"])
		return used["below"] > 0 && used["below"] > used["itself"]
	}, patience, 10*time.Millisecond)
	_, err = newMeter([]watched{{"nobody", 1 << 30, itself}})
	require.ErrorContains(t, err, "nobody")
}

func TestFacts(t *testing.T) {
	h := testHarness(t)
	facts := map[string]string{}
	for _, f := range h.facts(t.Context()) {
		require.NotEmpty(t, f.value, f.name)
		facts[f.name] = f.value
	}
	require.Equal(t, runtime.Version(), facts["Go"])
	require.Contains(t, facts["machine"], runtime.GOARCH)
	require.Equal(t, "1 of 100ms each, in turn; 8 connections in a closed loop", facts["rounds"])
	require.NotContains(t, facts, "Apache Kafka", "it was not there")
}
