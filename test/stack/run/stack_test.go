package main

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/internal/dev/embedded"
	_ "tradestore/test/cleanenv"
)

func TestMain(m *testing.M) {
	embedded.MaybeHelper()
	os.Exit(m.Run())
}

// pipe lets the test read what the stack prints when it is there.
type pipe chan string

func (p pipe) Write(b []byte) (int, error) {
	p <- string(b)
	return len(b), nil
}

func TestStack(t *testing.T) {
	if _, err := exec.LookPath("mvn"); err != nil && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	dir, err := os.MkdirTemp("", "tradestore-stack-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o711))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "others"), nil, 0o600))

	ctx, interrupt := context.WithCancel(t.Context())
	t.Cleanup(interrupt)
	out, code := make(pipe, 1), make(chan int, 1)
	var progress bytes.Buffer // read when run has returned
	go func() { code <- run(ctx, []string{"--data-dir", dir}, out, &progress) }()
	var shown string
	select {
	case shown = <-out:
	case <-code:
		t.Fatal(progress.String())
	case <-time.After(startLimit):
		t.Fatal("neither ready nor failed")
	}
	env := environment(t, dir, shown)
	assert.Contains(t, shown, env["TRADESTORE_KAFKA_BROKERS"])
	assert.Contains(t, shown, env["TRADESTORE_DYNAMODB_ENDPOINT"])
	assert.NotContains(t, shown, "postgres://", "a password on the screen")
	assert.Equal(t, "single", env["TRADESTORE_PROFILE"])

	db, err := pgx.Connect(t.Context(), env["TRADESTORE_DATABASE_URL"])
	require.NoError(t, err)
	require.NoError(t, db.Close(t.Context()))
	client, err := kgo.NewClient(kgo.SeedBrokers(env["TRADESTORE_KAFKA_BROKERS"]))
	require.NoError(t, err)
	defer client.Close()
	require.NoError(t, client.Ping(t.Context()))
	resp, err := http.Get(env["TRADESTORE_DYNAMODB_ENDPOINT"])
	require.NoError(t, err)
	resp.Body.Close()

	var stderr bytes.Buffer
	require.Equal(t, 1, run(t.Context(), []string{"--data-dir", dir}, &stderr, &stderr))
	require.Contains(t, stderr.String(), "--data-dir")
	require.Contains(t, stderr.String(), "in use by another process")
	require.Equal(t, 1, run(t.Context(), []string{"--data-dir", dir, "--remove"}, &stderr, &stderr))

	interrupt()
	require.Zero(t, <-code, progress.String())
	_, err = pgx.Connect(t.Context(), env["TRADESTORE_DATABASE_URL"])
	require.Error(t, err)
	_, err = http.Get(env["TRADESTORE_DYNAMODB_ENDPOINT"])
	require.Error(t, err)
	require.Error(t, client.Ping(t.Context()))

	require.Zero(t, run(t.Context(), []string{"--data-dir", dir, "--remove"}, &stderr, &stderr), stderr.String())
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Equal(t, []string{filepath.Join(dir, "others")}, left)
}

// environment is what a shell has after the line that the banner shows.
func environment(t *testing.T, dir, shown string) map[string]string {
	t.Helper()
	line := regexp.MustCompile(`(?m)^  (\. .*)$`).FindStringSubmatch(shown)
	require.NotNil(t, line, shown)
	cmd := exec.Command("/bin/sh", "-c", line[1]+" && env")
	cmd.Dir = dir
	text, err := cmd.CombinedOutput()
	require.NoError(t, err, string(text))
	env := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		env[name] = value
	}
	return env
}

func TestFlags(t *testing.T) {
	f := func(code int, want string, args ...string) {
		t.Helper()
		var out bytes.Buffer
		require.Equal(t, code, run(t.Context(), args, &out, &out), out.String())
		assert.Contains(t, out.String(), want)
	}
	f(0, "--dynamodb-port", "--help")
	f(0, "Java 17 (a JDK) and Maven", "--help")
	f(2, "--kafka-port: not between 0 and 65535", "--kafka-port", "70000")
	f(2, "--dynamodb-port: not between 0 and 65535", "--kafka-port", "70000", "--dynamodb-port=-1")
	f(2, "unknown flag --port", "--port", "1")
	f(2, "--data-dir: empty", "--data-dir", "")
	f(0, "", "--remove", "--data-dir", filepath.Join(t.TempDir(), "nothing there"))
	f(1, "cannot use the data folder (--data-dir)", "--data-dir", filepath.Join(os.Args[0], "below a file"))
}
