package app

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"tradestore/internal/dev/embedded"
	"tradestore/test/stack"
)

func TestMain(m *testing.M) { stack.Main(m) }

// patience bounds every wait for something that must happen. It is no measure of speed.
const patience = 60 * time.Second

// deployment is what the roles of a test stand on.
type deployment struct {
	database string
	brokers  []string
}

func newDeployment(t *testing.T) deployment {
	t.Helper()
	s := deployment{stack.Database(t), stack.Kafka(t)}
	require.NoError(t, Migrate(t.Context(), s.migrateConfig(t), zerolog.New(zerolog.NewTestWriter(t))))
	return s
}

func (s deployment) migrateConfig(t *testing.T) MigrateConfig {
	t.Helper()
	c := *defaults[MigrateConfig](t)
	c.Database.URL, c.Kafka.Brokers, c.Kafka.Partitions, c.Profile.Profile = s.database, s.brokers, 3, "single"
	return c
}

func (s deployment) serverConfig(t *testing.T) ServerConfig {
	t.Helper()
	c := *defaults[ServerConfig](t)
	c.Database.URL, c.Kafka.Brokers, c.Kafka.Partitions, c.Profile.Profile = s.database, s.brokers, 3, "single"
	c.Server.LookupTimeout = 10 * time.Second // under the race detector a look-up may be slow
	return c
}

func (s deployment) workerConfig(t *testing.T) WorkerConfig {
	t.Helper()
	c := *defaults[WorkerConfig](t)
	c.Database.URL, c.Kafka.Brokers, c.Kafka.Partitions, c.Profile.Profile = s.database, s.brokers, 3, "single"
	return c
}

// running is a role that a test has started.
type running struct {
	url   string
	log   *safeBuffer
	stop  context.CancelFunc
	ended chan struct{} // closed when err is set
	err   error
}

// start runs a role on a free port and stops it at the end of the test, if the test has not.
func start(t *testing.T, run func(context.Context, Env) error) *running {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	r := &running{url: "http://" + ln.Addr().String(), log: &safeBuffer{}, stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		r.err = run(ctx, Env{Log: zerolog.New(r.log).Level(zerolog.InfoLevel), Listener: ln})
	}()
	t.Cleanup(func() {
		stop()
		<-r.ended
		if t.Failed() {
			t.Log(r.log.String())
		}
	})
	return r
}

// drain stops the role as a signal would and returns how it ended.
func (r *running) drain() error {
	r.stop()
	<-r.ended
	return r.err
}

// await polls until the role has come to a state. A role that ended will not.
func (r *running) await(t *testing.T, what string, reached func() bool) {
	t.Helper()
	for limit := time.After(patience); !reached(); {
		select {
		case <-r.ended:
			require.NoError(t, r.err, "ended before: %s", what)
			require.Fail(t, "ended before: "+what)
		case <-limit:
			require.Fail(t, "waited in vain: "+what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// says is for await: the log contains the text.
func (r *running) says(text string) func() bool {
	return func() bool { return strings.Contains(r.log.String(), text) }
}

// answers is for await: GET path has the status.
func (r *running) answers(t *testing.T, path string, status int) func() bool {
	t.Helper()
	return func() bool {
		got, _ := r.get(t, path)
		return got == status
	}
}

// get returns the answer to GET path, as JSON where it is JSON.
func (r *running) get(t *testing.T, path string) (int, map[string]any) {
	t.Helper()
	return send(t, http.MethodGet, r.url+path, "")
}

func send(t *testing.T, method, url, body string) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, map[string]any{"error": err.Error()} // a role that is starting or ending
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	var shape map[string]any
	_ = json.Unmarshal(text, &shape)
	if shape == nil {
		shape = map[string]any{"text": string(text)}
	}
	return answer.StatusCode, shape
}

func (r *running) awaitReady(t *testing.T) {
	t.Helper()
	r.await(t, "ready", r.answers(t, "/readyz", http.StatusOK))
}

func tradeJSON(id string, version string) string {
	return `{"trade_id":"` + id + `","version":` + version + `,"counterparty_id":"CP-1","book_id":"B1",` +
		`"maturity_date":"9998-12-31","created_date":"2026-01-02"}`
}

func TestATradeGoesThroughBothRoles(t *testing.T) {
	s := newDeployment(t)
	server := start(t, func(ctx context.Context, env Env) error { return RunServer(ctx, s.serverConfig(t), env) })
	worker := start(t, func(ctx context.Context, env Env) error { return RunWorker(ctx, s.workerConfig(t), env) })
	server.awaitReady(t)
	worker.awaitReady(t)

	status, answer := send(t, http.MethodPost, server.url+"/api/v1/trades", tradeJSON("T1", "1"))
	require.Equal(t, http.StatusAccepted, status, answer)
	id := answer["request_id"].(string)
	server.await(t, "stored", func() bool {
		_, answer = server.get(t, "/api/v1/requests/"+id)
		return answer["status"] == "SUCCESS"
	})
	status, answer = server.get(t, "/api/v1/trades/T1")
	require.Equal(t, http.StatusOK, status)
	require.Len(t, answer["items"], 1)
	status, answer = server.get(t, "/api/v1/health")
	require.Equal(t, http.StatusOK, status, answer)

	for _, role := range []*running{server, worker} {
		status, _ = role.get(t, "/livez")
		require.Equal(t, http.StatusOK, status)
		status, answer = role.get(t, "/metrics")
		require.Equal(t, http.StatusOK, status)
		names := []string{"tradestore_build_info{", "go_goroutines ", "tradestore_postgres_pool_", "tradestore_kafka_"}
		for _, name := range names {
			require.Contains(t, answer["text"], name)
		}
	}
	require.NoError(t, server.drain())
	require.NoError(t, worker.drain())
	for _, role := range []*running{server, worker} {
		_, err := net.DialTimeout("tcp", strings.TrimPrefix(role.url, "http://"), time.Second)
		require.Error(t, err, "a drained role no longer listens")
	}
}

// The stores come up after the roles: nothing crashes, nothing is accepted before both have been verified.
func TestStoresThatAreDownDelayReadiness(t *testing.T) {
	folder := t.TempDir()
	kafka, err := embedded.StartKafka(embedded.KafkaConfig{Dir: folder})
	require.NoError(t, err)
	s := deployment{stack.Database(t), kafka.Addrs()}
	require.NoError(t, Migrate(t.Context(), s.migrateConfig(t), zerolog.Nop()))
	kafka.Close()
	direct, database := s.database, newDoor(t, s.database)
	s.database = database.url

	server := start(t, func(ctx context.Context, env Env) error { return RunServer(ctx, s.serverConfig(t), env) })
	worker := start(t, func(ctx context.Context, env Env) error { return RunWorker(ctx, s.workerConfig(t), env) })
	for _, role := range []*running{server, worker} {
		role.await(t, "alive", role.answers(t, "/livez", http.StatusOK))
		status, _ := role.get(t, "/readyz")
		require.Equal(t, http.StatusServiceUnavailable, status)
	}
	requireRefused := func() {
		t.Helper()
		status, answer := send(t, http.MethodPost, server.url+"/api/v1/trades", tradeJSON("T1", "1"))
		require.Equal(t, http.StatusServiceUnavailable, status)
		require.NotContains(t, answer, "request_id", "this call has no effect")
	}
	requireRefused()
	server.await(t, "waiting for both",
		server.says("cannot check T1, T2, T4, T5, T6, T11, T12: cannot read metadata of topic"))
	database.open(t, direct)
	server.await(t, "waiting for Kafka", server.says("cannot check T1, T2, T4, T5: cannot read metadata of topic"))
	requireRefused()
	kafka, err = embedded.StartKafka(embedded.KafkaConfig{Dir: folder})
	require.NoError(t, err)
	defer kafka.Close()

	server.awaitReady(t)
	worker.awaitReady(t)
	status, answer := send(t, http.MethodPost, server.url+"/api/v1/trades", tradeJSON("T1", "1"))
	require.Equal(t, http.StatusAccepted, status, answer)
	require.NoError(t, worker.drain())
	require.NoError(t, server.drain())
}

// A role that is stopped while it still waits for its stores ends without an error.
func TestAStopWhileWaitingIsClean(t *testing.T) {
	s := deployment{"postgres://nobody:none@127.0.0.1:1/none", []string{"127.0.0.1:1"}}
	f := func(run func(context.Context, Env) error) {
		t.Helper()
		role := start(t, run)
		role.await(t, "alive", role.answers(t, "/livez", http.StatusOK))
		require.NoError(t, role.drain())
		require.NotContains(t, role.log.String(), "accepting trades")
	}
	f(func(ctx context.Context, env Env) error { return RunServer(ctx, s.serverConfig(t), env) })
	f(func(ctx context.Context, env Env) error { return RunWorker(ctx, s.workerConfig(t), env) })
}

// What is wrong and not just absent stops a role at once, with what was expected and what was seen.
func TestAFailedCheckStopsLoudly(t *testing.T) {
	s := newDeployment(t)
	f := func(s deployment, partitions int, want ...string) {
		t.Helper()
		server := s.serverConfig(t)
		worker := s.workerConfig(t)
		server.Kafka.Partitions, worker.Kafka.Partitions = partitions, partitions
		for _, role := range []*running{
			start(t, func(ctx context.Context, env Env) error { return RunServer(ctx, server, env) }),
			start(t, func(ctx context.Context, env Env) error { return RunWorker(ctx, worker, env) }),
		} {
			select {
			case <-role.ended:
				for _, text := range want {
					require.ErrorContains(t, role.err, text)
				}
			case <-time.After(patience):
				require.Fail(t, "still running", role.log.String())
			}
		}
	}
	f(s, 4, "checks failed", "T2 partitions of the topic: expected 4, seen: 3",
		"T2 partitions with a position: expected 4, seen: 3")
	f(deployment{s.database, stack.Kafka(t)}, 3, "checks failed",
		"T1 topic trades-inbound: expected there, seen: no such topic")
	f(deployment{stack.Database(t), s.brokers}, 3, "checks failed", "T6 version of the schema", "run tradestore migrate")

	recreated := deployment{s.database, stack.Kafka(t)}
	other := deployment{stack.Database(t), recreated.brokers}
	require.NoError(t, Migrate(t.Context(), other.migrateConfig(t), zerolog.Nop()))
	f(recreated, 3, "T1 id of the topic: expected", "seen: ")
}

func TestMigrateIsRepeatableAndRefusesAnotherTopic(t *testing.T) {
	s := newDeployment(t)
	require.NoError(t, Migrate(t.Context(), s.migrateConfig(t), zerolog.Nop()))

	more := s.migrateConfig(t)
	more.Kafka.Partitions = 4
	require.ErrorContains(t, Migrate(t.Context(), more, zerolog.Nop()), "4 partitions")
	s.brokers = stack.Kafka(t)
	require.ErrorContains(t, Migrate(t.Context(), s.migrateConfig(t), zerolog.Nop()), "was created anew")
}

func TestMigrateNamesTheProfileWhenBrokersAreTooFew(t *testing.T) {
	s := deployment{stack.Database(t), stack.Kafka(t)}
	c := s.migrateConfig(t)
	c.Profile.Profile = "production"
	require.ErrorContains(t, Migrate(t.Context(), c, zerolog.Nop()), "--profile single")
}

func TestAnOpenAddressIsWarnedAbout(t *testing.T) {
	f := func(address string, warned bool) {
		t.Helper()
		tcp, err := net.ResolveTCPAddr("tcp", address)
		require.NoError(t, err)
		var log bytes.Buffer
		warnIfOpen(zerolog.New(&log), tcp)
		require.Equal(t, warned, strings.Contains(log.String(), "no authentication"))
	}
	f("127.0.0.1:8000", false)
	f("127.9.9.9:8000", false)
	f("[::1]:8000", false)
	f("0.0.0.0:8000", true)
	f("[::]:8000", true)
	f("192.0.2.1:8000", true)
}

func TestListenNamesItsFlag(t *testing.T) {
	taken, err := listen("127.0.0.1:0")
	require.NoError(t, err)
	_, err = listen(taken.Addr().String())
	require.ErrorContains(t, err, "the address is in use; choose another with --listen")
	_, err = listen("192.0.2.1:1") // reserved for documentation: no machine has it
	require.ErrorContains(t, err, "cannot listen on 192.0.2.1:1 (--listen)")

	require.NoError(t, taken.Close())
	err = observe(t.Context(), taken, prometheus.NewRegistry(), func() error { return nil })
	require.ErrorContains(t, err, "cannot serve probes and metrics")
}
