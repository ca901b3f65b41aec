// Package stack gives tests the real services: PostgreSQL, Apache Kafka, DynamoDB Local, Prometheus, and an embedded
// Kafka broker that is quicker to start. What tests share ends with the test binary.
package stack

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"tradestore/internal/dev/embedded"
	_ "tradestore/test/cleanenv" // for every test that uses a store
	"tradestore/test/stack/services"
)

// serverVar names a PostgreSQL server to use instead of an embedded one: its URL, of a role that may create databases.
const serverVar = "TRADESTORE_TEST_DATABASE_URL"

// startLimit covers the one download on a slow line, and what other test binaries do meanwhile.
const startLimit = 6 * time.Minute

var (
	postgres  shared
	databases atomic.Int64 // made so far
)

// Main runs the tests of a package and stops what they shared. TestMain calls it and nothing else.
func Main(m *testing.M) {
	embedded.MaybeHelper()
	sharing = true
	code := m.Run()
	for _, l := range []*shared{&postgres, &apacheKafka, &dynamoDB} {
		l.stopShared()
	}
	os.Exit(code)
}

// Database makes an empty database and drops it at the end of the test, with the sessions that are still open.
// Where no server can run the test is skipped, and with CI=true fails.
func Database(t testing.TB) string {
	t.Helper()
	server := postgres.get(t, serverVar, startShared)
	name := fmt.Sprintf("test_%d_%d", os.Getpid(), databases.Add(1))
	exec(t, server, "CREATE DATABASE "+name)
	t.Cleanup(func() { exec(t, server, "DROP DATABASE "+name+" WITH (FORCE)") })
	u, err := url.Parse(server)
	if err != nil {
		t.Fatalf("%s is not a URL", serverVar) // the error would quote the password
	}
	u.Path = name
	return u.String()
}

func startShared() (string, func(), error) {
	server, remove, err := start(embedded.Config{SharedBuffers: "64MB", Scratch: true})
	if err != nil {
		return "", nil, err
	}
	return server.URL(), func() { server.Stop(); remove() }, nil
}

// OwnPostgres starts a server for this test alone, so that the test may stop or kill it, and stops it at the end.
// Where none can run the test is skipped, and with CI=true fails.
func OwnPostgres(t testing.TB) *embedded.Postgres {
	t.Helper()
	server, remove, err := start(embedded.Config{SharedBuffers: "16MB", Scratch: true})
	require(t, err)
	t.Cleanup(func() { server.Stop(); remove() })
	return server
}

// start runs a server in a new temporary folder.
func start(cfg embedded.Config) (server *embedded.Postgres, remove func(), err error) {
	if cfg.Dir, err = Dir(); err != nil {
		return nil, nil, err
	}
	remove = func() { _ = os.RemoveAll(cfg.Dir) } // what stays is in the temporary folder
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	cfg.Log = zerolog.New(os.Stderr).Level(zerolog.WarnLevel)
	if server, err = embedded.Start(ctx, cfg); err != nil {
		remove()
		return nil, nil, fmt.Errorf("%w or %s: %w", errNoPostgres, serverVar, err)
	}
	return server, remove, nil
}

// Dir makes a temporary folder that PostgreSQL can use when the tests run as root, which t.TempDir's is not. The caller
// removes it.
func Dir() (string, error) {
	dir, err := os.MkdirTemp("", "tradestore-test-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o711) // to pass through, not to list
}

// Kafka starts a broker in memory for this test and returns its addresses.
func Kafka(t testing.TB) []string {
	t.Helper()
	broker, err := embedded.StartKafka(embedded.KafkaConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	return broker.Addrs()
}

// errNoPostgres goes before the reason why PostgreSQL can't be had.
var errNoPostgres = errors.New("needs PostgreSQL")

// require ends the test when a service can't be had. What this machine lacks is no fault of the code, except in CI,
// where a test that is always skipped would prove nothing.
func require(t testing.TB, err error) {
	t.Helper()
	if err == nil {
		return
	}
	lacking := errors.Is(err, errNoPostgres) || errors.Is(err, services.ErrMissing)
	if lacking && !strings.EqualFold(os.Getenv("CI"), "true") {
		t.Skip(err)
	}
	t.Fatal(err)
}

func exec(t testing.TB, server, statement string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		t.Fatalf("cannot reach the test database server: %v", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, statement); err != nil {
		t.Fatalf("%s: %v", strings.Join(strings.Fields(statement)[:2], " "), err)
	}
}
