package app

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"tradestore/kafka"
	"tradestore/test/stack"
)

// wreck is what an administrator does to a stack that runs.
type wreck struct {
	deployment
	topic string
	admin *kadm.Client
	t     *testing.T
}

func (s deployment) wreck(t *testing.T, topic string) *wreck {
	t.Helper()
	cfg := kafka.Config{Brokers: s.brokers, Topic: topic, ClientID: "admin"}
	client, err := kafka.NewProducer(cfg, prometheus.NewRegistry(), zerolog.Nop())
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return &wreck{s, topic, kadm.NewClient(client), t}
}

func (w *wreck) exec(sql string) int64 {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, w.database)
	require.NoError(w.t, err)
	defer func() { require.NoError(w.t, conn.Close(ctx)) }()
	done, err := conn.Exec(ctx, sql)
	require.NoError(w.t, err)
	return done.RowsAffected()
}

func (w *wreck) recreate() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := w.admin.DeleteTopic(ctx, w.topic)
	require.NoError(w.t, err)
	for err = kerr.TopicAlreadyExists; err != nil; { // it takes a moment to be gone
		require.NoError(w.t, ctx.Err())
		_, err = w.admin.CreateTopic(ctx, 3, 1, nil, w.topic)
	}
}

// balanced says whether every lane has joined the group and has partitions. A lane that joined later would read the
// spoiled positions itself, before a check does.
func (w *wreck) balanced(group string, lanes int) bool {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	described, err := w.admin.DescribeGroups(ctx, group)
	require.NoError(w.t, err)
	members := described[group].Members
	for _, m := range members {
		if assigned, ok := m.Assigned.AsConsumer(); !ok || len(assigned.Topics) == 0 {
			return false
		}
	}
	return described[group].State == "Stable" && len(members) == lanes
}

func (w *wreck) addPartition() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := w.admin.UpdatePartitions(ctx, 4, w.topic)
	require.NoError(w.t, err)
}

func (w *wreck) loseRecords() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ends, err := w.admin.ListEndOffsets(ctx, w.topic)
	require.NoError(w.t, err)
	gone := ends.Offsets()
	_, err = w.admin.DeleteRecords(ctx, gone)
	require.NoError(w.t, err)
	w.exec("UPDATE ingest_offsets SET next_offset = 0")
}

// What changes below a running server and a running worker stops both, and no row is changed by it (rule T9).
func TestACheckThatFailsLaterStopsTheRolesLoudly(t *testing.T) {
	f := func(name string, spoil func(*wreck), want string) {
		t.Helper()
		run := func(t *testing.T, brokers []string) {
			s, topic := deployment{stack.Database(t), brokers}, "trades-"+strings.ReplaceAll(name, " ", "-")
			migrateConfig, serverConfig, workerConfig := s.migrateConfig(t), s.serverConfig(t), s.workerConfig(t)
			migrateConfig.Kafka.Topic, serverConfig.Kafka.Topic, workerConfig.Kafka.Topic = topic, topic, topic
			workerConfig.Worker.Group = topic
			require.NoError(t, Migrate(t.Context(), migrateConfig, zerolog.Nop()))
			serverConfig.Process.CheckInterval, workerConfig.Process.CheckInterval = time.Second, time.Second
			const confirmFor = 2 * time.Second
			server := start(t, func(ctx context.Context, env Env) error {
				env.ConfirmFor = confirmFor
				return RunServer(ctx, serverConfig, env)
			})
			worker := start(t, func(ctx context.Context, env Env) error {
				env.ConfirmFor = confirmFor
				return RunWorker(ctx, workerConfig, env)
			})
			server.awaitReady(t)
			worker.awaitReady(t)
			for _, id := range []string{"T1", "T2", "T3", "T4", "T5"} {
				status, answer := send(t, http.MethodPost, server.url+"/api/v1/trades", tradeJSON(id, "1"))
				require.Equal(t, http.StatusAccepted, status, answer)
			}
			w := s.wreck(t, topic)
			server.await(t, "applied", func() bool { return w.exec("SELECT 1 FROM trades") == 5 })
			worker.await(t, "balanced", func() bool { return w.balanced(topic, workerConfig.Worker.Lanes) })

			spoil(w)
			for _, role := range []*running{server, worker} {
				select {
				case <-role.ended:
					require.ErrorContains(t, role.err, "checks failed")
					require.ErrorContains(t, role.err, want)
				case <-time.After(patience):
					require.Fail(t, "still running", role.log.String())
				}
			}
			require.Equal(t, int64(5), w.exec("SELECT 1 FROM trades"))
			require.Equal(t, int64(5), w.exec("SELECT 1 FROM journal"))
		}
		t.Run(name+"/embedded", func(t *testing.T) { run(t, stack.Kafka(t)) })
		t.Run(name+"/apache", func(t *testing.T) { run(t, stack.SharedApacheKafka(t)) })
	}
	f("topic made again", (*wreck).recreate, "")
	f("partition added", (*wreck).addPartition, "seen: 4")
	f("offsets past the end", func(w *wreck) {
		w.exec("UPDATE ingest_offsets SET next_offset = 1000")
	}, "whose log reaches from 0 to")
	f("records lost by retention", (*wreck).loseRecords, "")
	f("schema gone back", func(w *wreck) { w.exec("UPDATE schema_version SET version = 0") }, "run tradestore migrate")
	f("database read-only", func(w *wreck) { w.takesWrites("off") }, "takes writes: expected yes, seen: no")
}

// takesWrites makes the database refuse writes ("off") or take them again ("on"), and ends the sessions on it.
func (w *wreck) takesWrites(state string) {
	w.t.Helper()
	readOnly := map[string]string{"on": "off", "off": "on"}[state]
	w.exec(`SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE; COMMIT;
		DO $$ BEGIN
			EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = ` + readOnly + `', current_database());
		END $$`)
	w.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid()`)
}

// What a failover shows for a moment stops nothing, however often it is seen: a database that takes no writes, and a
// log that ends before what was applied (rule T8).
func TestAFailoverStopsNoRole(t *testing.T) {
	s := newDeployment(t)
	serverConfig, workerConfig := s.serverConfig(t), s.workerConfig(t)
	serverConfig.Process.CheckInterval, workerConfig.Process.CheckInterval = time.Second, time.Second
	server := start(t, func(ctx context.Context, env Env) error { return RunServer(ctx, serverConfig, env) })
	worker := start(t, func(ctx context.Context, env Env) error { return RunWorker(ctx, workerConfig, env) })
	server.awaitReady(t)
	worker.awaitReady(t)
	w := s.wreck(t, serverConfig.Kafka.Topic)
	seen := func(rule string) {
		t.Helper()
		for _, role := range []*running{server, worker} {
			role.await(t, "seen", func() bool {
				_, answer := role.get(t, "/metrics")
				text, _ := answer["text"].(string)
				return text != "" && !strings.Contains(text, `tradestore_checks{rule="`+rule+`",status="unconfirmed"} 0`)
			})
		}
	}
	w.takesWrites("off")
	seen("T6")
	w.takesWrites("on")
	server.awaitReady(t)
	worker.awaitReady(t)

	w.exec("UPDATE ingest_offsets SET next_offset = 1 WHERE partition = 0")
	seen("T5")
	w.exec("UPDATE ingest_offsets SET next_offset = 0 WHERE partition = 0")
	for _, role := range []*running{server, worker} {
		role.await(t, "well again", role.metric(t, `tradestore_checks{rule="T5",status="unconfirmed"} 0`))
	}
	server.ends(t, server.post(t, "T1", "1"), "SUCCESS", nil)
	require.NoError(t, worker.drain())
	require.NoError(t, server.drain())
}

// A check that can't be made any more raises a metric and stops nothing (rule T8).
func TestAnOutageFailsNoCheck(t *testing.T) {
	direct := stack.Database(t)
	database := newDoor(t, direct)
	opened := deployment{direct, stack.Kafka(t)}
	require.NoError(t, Migrate(t.Context(), opened.migrateConfig(t), zerolog.Nop()))
	s := deployment{database.url, opened.brokers}
	database.open(t, direct)
	cfg := s.serverConfig(t)
	cfg.Process.CheckInterval = time.Second
	server := start(t, func(ctx context.Context, env Env) error { return RunServer(ctx, cfg, env) })
	server.awaitReady(t)
	says := func(line string) func() bool {
		return func() bool {
			_, answer := server.get(t, "/metrics")
			text, _ := answer["text"].(string)
			return strings.Contains(text, line)
		}
	}
	require.True(t, says(`tradestore_checks{rule="T6",status="unknown"} 0`)())
	database.shut()
	server.await(t, "counted", says(`tradestore_checks{rule="T6",status="unknown"} 9`))
	database.open(t, direct)
	server.await(t, "well again", says(`tradestore_checks{rule="T6",status="unknown"} 0`))
	server.awaitReady(t)
	require.NoError(t, server.drain())
}
