package live

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"tradestore/dashboards/rules"
	"tradestore/internal/dev/embedded"
	"tradestore/loadtest"
	"tradestore/test/program"
	"tradestore/test/stack"
	"tradestore/test/stack/services"
)

func TestMain(m *testing.M) { stack.Main(m) }

const (
	topic        = "trades-inbound"
	most         = 64              // trades in the server at once, four of them on their way to the stores
	scale        = 1.0 / 120       // of the rules: an hour is half a minute
	limit        = 3 * time.Minute // for anything to start, or to show in Prometheus
	pollInterval = time.Second / 2
)

// deployment is a server and a worker as processes of their own on the real stores, and the Prometheus that watches
// them.
type deployment struct {
	env            []string
	kafka          *services.Kafka
	dynamo         *services.DynamoDB
	postgres       *embedded.Postgres
	folder         string // of PostgreSQL
	server, worker *services.Process
	prometheus     *services.Prometheus
}

// newStack starts everything. The request store is on DynamoDB, so that both kinds of store have something to show. The
// server is small, so that a load that a laptop can make is too much for it.
func newDeployment(t *testing.T) *deployment {
	t.Helper()
	s := &deployment{kafka: stack.ApacheKafka(t), dynamo: stack.OwnDynamoDB(t)}
	var err error
	s.folder, err = stack.Dir()
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(s.folder) })
	t.Cleanup(func() { s.postgres.Stop() })
	s.startPostgres(t)
	s.env = append(os.Environ(),
		"TRADESTORE_DATABASE_URL="+s.postgres.URL(), "TRADESTORE_KAFKA_BROKERS="+s.kafka.Addrs()[0],
		"TRADESTORE_TOPIC="+topic,
		"TRADESTORE_REQUEST_STORE=dynamodb", "TRADESTORE_DYNAMODB_ENDPOINT="+s.dynamo.Endpoint(), "TRADESTORE_PROFILE=single",
		"TRADESTORE_LOG_FORMAT=json", "TRADESTORE_CHECK_INTERVAL=1s",
		fmt.Sprintf("TRADESTORE_QUEUE_ITEMS=%d", most), "TRADESTORE_FLUSHES=1", "TRADESTORE_MAX_BATCH=4",
		"TRADESTORE_KAFKA_SESSION_TIMEOUT=3s", "TRADESTORE_TRANSACTION_LIMIT=5s",
		"TRADESTORE_ACCEPT_DEADLINE=2s", "TRADESTORE_DELIVERY_TIMEOUT=2s", "TRADESTORE_ORPHAN_AFTER=8s",
		"TRADESTORE_ORPHAN_INTERVAL=1s",
	)
	path := program.Build(t)
	migrate := exec.Command(path, "migrate")
	migrate.Env = s.env
	said, err := migrate.CombinedOutput()
	require.NoError(t, err, "%s", said)
	s.server, s.worker = s.role(t, path, "server"), s.role(t, path, "worker")
	s.prometheus = stack.Prometheus(t, services.PrometheusConfig{
		Interval: time.Second, Rules: ruleFiles(t), Targets: []services.Target{
			{Job: "tradestore-server", Address: address(s.server)}, {Job: "tradestore-worker", Address: address(s.worker)},
		},
	})
	return s
}

func (s *deployment) role(t *testing.T, path, name string) *services.Process {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	p, err := services.StartRole(ctx, services.RoleConfig{Dir: filepath.Join(t.TempDir(), name), Program: path,
		Role: name, Env: s.env})
	require.NoError(t, err)
	t.Cleanup(p.Kill)
	return p
}

func address(p *services.Process) string { return fmt.Sprintf("127.0.0.1:%d", p.Port()) }

// startPostgres starts it on the folder and the port of the last time.
func (s *deployment) startPostgres(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var err error
	s.postgres, err = embedded.Start(ctx, embedded.Config{Dir: s.folder, SharedBuffers: "16MB", Scratch: true,
		Log: zerolog.Nop()})
	require.NoError(t, err)
}

// ruleFiles are the rules of production in less time.
func ruleFiles(t *testing.T) []string {
	t.Helper()
	var paths []string
	for name, text := range rules.Make(scale) {
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(path, text, 0o600))
		paths = append(paths, path)
	}
	return paths
}

// load sends a load until the function that it returns is called, which then returns what became of it.
func (s *deployment) load(t *testing.T, rate float64, connections int,
	mix string) (end func() loadtest.Reconciliation) {
	t.Helper()
	target := url.URL{Scheme: "http", Host: address(s.server)}
	ctx, cancel := context.WithCancel(t.Context())
	var report *loadtest.Report
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		report, _, err = loadtest.Run(ctx, loadtest.Config{
			Target: target.String(), Rate: rate, Duration: time.Hour, StepDuration: time.Second, Mix: mix, Generator: "light",
			Connections:  connections,
			MaxAcceptP99: time.Second, MaxFinalP99: time.Second, MaxErrorRate: 1, Follow: 1, DrainTimeout: time.Minute,
			Out: t.TempDir(), Topic: topic,
		}, loadtest.Env{})
	}()
	t.Cleanup(func() { cancel(); <-done })
	return func() loadtest.Reconciliation {
		cancel()
		<-done
		require.NoError(t, err)
		return report.Reconciliation
	}
}
