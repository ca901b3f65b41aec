package dev

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDefaults(t *testing.T) {
	cfg := parse(t)
	require.Equal(t, "127.0.0.1:8000", cfg.Listen)
	require.Equal(t, "127.0.0.1:8001", cfg.WorkerListen)
	require.Equal(t, "./tradestore-data", cfg.DataDir)
	require.Equal(t, 12, cfg.Partitions)
	require.NoError(t, cfg.Validate())
}

func TestValidate(t *testing.T) {
	f := func(change func(*Config), want ...string) {
		t.Helper()
		cfg := parse(t)
		change(&cfg)
		err := cfg.Validate()
		for _, line := range want {
			assert.ErrorContains(t, err, line)
		}
	}
	f(func(c *Config) { c.Listen = "nonsense" }, "--listen: ")
	f(func(c *Config) { c.WorkerListen = "nonsense" }, "--worker-listen: ")
	f(func(c *Config) { c.DataDir = "" }, "--data-dir: ")
	f(func(c *Config) { c.KafkaPort = -1 }, "--kafka-port: ")
	f(func(c *Config) { c.PostgresPort = 70000 }, "--postgres-port: ")
	f(func(c *Config) { c.PostgresPort, c.DatabaseURL = 5432, "postgres://x@y/z" }, "--postgres-port: ")
	f(func(c *Config) { c.DatabaseURL = "y:secret" }, "--database-url: ")
	f(func(c *Config) { c.Partitions = 0 }, "--partitions: ")
	f(func(c *Config) { c.Server.RequestConns = 0 }, "--request-conns: ")
	f(func(c *Config) { c.Worker.Group = "" }, "--kafka-group: ")
	f(func(c *Config) { c.Log.Level = "loud" }, "--log-level: ")
	f(func(c *Config) { c.Listen, c.Partitions, c.DataDir = "", -1, "" }, "--listen: ", "--partitions: ", "--data-dir: ")
}

// Settings that both roles have are one mistake, not two, and the server's address is not the worker's.
func TestValidateSaysItOnce(t *testing.T) {
	cfg := parse(t)
	cfg.Listen, cfg.Partitions = "nonsense", 0
	lines := cfg.Validate().(interface{ Unwrap() []error }).Unwrap()
	require.Len(t, lines, 2)
}
