package app

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/internal/checks"
	"tradestore/internal/telemetry"
	"tradestore/kafka"
	"tradestore/postgres"
	"tradestore/test/stack"
	"tradestore/trade"
)

// mover is a stack that is to move to another topic.
type mover struct {
	deployment
	t      *testing.T
	from   MigrateConfig
	next   MigrateConfig
	client *kgo.Client
	pool   *pgxpool.Pool
	log    entries
}

func newMover(t *testing.T, brokers []string) *mover {
	t.Helper()
	m := &mover{deployment: deployment{stack.Database(t), brokers}, t: t}
	m.from = m.migrateConfig(t)
	m.from.Promise = quickPromise
	m.from.Kafka.Topic = fmt.Sprintf("trades-%d", time.Now().UnixNano())
	m.next = m.from
	m.next.Kafka.Topic, m.next.Kafka.Partitions = m.from.Kafka.Topic+"-2", 5
	m.next.NewGeneration = true
	require.NoError(t, Migrate(t.Context(), m.from, zerolog.Nop()))
	env := Env{Registry: telemetry.NewRegistry(), Log: zerolog.Nop(), Now: time.Now}
	var err error
	m.client, err = kafka.NewProducer(m.from.Kafka.client("test"), env.Registry, env.Log)
	require.NoError(t, err)
	t.Cleanup(m.client.Close)
	m.pool, err = postgres.Open(t.Context(), m.from.Database.pool("test", 2), env.Registry)
	require.NoError(t, err)
	t.Cleanup(m.pool.Close)
	requests, err := m.from.RequestStore.open(t.Context(), m.pool, time.Hour, env)
	require.NoError(t, err)
	m.log = requests.entries
	return m
}

func (m *mover) server(topic KafkaFlags) *running {
	m.t.Helper()
	c := m.serverConfig(m.t)
	c.Kafka = topic
	c.Process.CheckInterval = time.Hour // it does not notice by itself
	m.allow(m.t, c.Promise)
	return start(m.t, func(ctx context.Context, env Env) error { return RunServer(ctx, c, env) })
}

func (m *mover) worker(topic KafkaFlags) *running {
	m.t.Helper()
	c := m.workerConfig(m.t)
	c.Kafka, c.Worker.Group, c.Process.CheckInterval = topic, m.from.Kafka.Topic, time.Second
	c.Promise = quickPromise
	c.Worker.OrphanInterval, c.Worker.ProjectInterval = 50*time.Millisecond, 50*time.Millisecond
	return start(m.t, func(ctx context.Context, env Env) error { return RunWorker(ctx, c, env) })
}

func (m *mover) exec(sql string, args ...any) {
	m.t.Helper()
	_, err := m.pool.Exec(m.t.Context(), sql, args...)
	require.NoError(m.t, err)
}

// generation returns the number of the newest one.
func (m *mover) generation() (n int) {
	m.t.Helper()
	require.NoError(m.t, m.pool.QueryRow(m.t.Context(), "SELECT max(generation) FROM ingest_offsets").Scan(&n))
	return n
}

// posts says whether the topic takes a record, which it then has.
func (m *mover) posts(topic string) bool {
	m.t.Helper()
	cfg := kafka.Config{Brokers: m.brokers, Topic: topic, ClientID: "raw"}
	client, err := kafka.NewProducer(cfg, prometheus.NewRegistry(), zerolog.Nop())
	require.NoError(m.t, err)
	defer client.Close()
	return client.ProduceSync(m.t.Context(), &kgo.Record{Value: []byte("{}")}).FirstErr() == nil
}

func keyed(t *testing.T, url, key, body string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/api/v1/trades", strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", key)
	answer, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()
	var text bytes.Buffer
	_, err = text.ReadFrom(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, answer.Header, text.String()
}

// Roles of the topic before come to no harm and do none; those of the new one go on where they were (rule T10).
func TestTheDatabaseFollowsANewTopic(t *testing.T) {
	run := func(t *testing.T, brokers []string) {
		m := newMover(t, brokers)
		server, worker := m.server(m.from.Kafka), m.worker(m.from.Kafka)
		server.awaitReady(t)
		worker.awaitReady(t)
		for _, id := range []string{"T1", "T2", "T3", "T1", "T1"} {
			server.ends(t, server.post(t, id, "7"), "SUCCESS", nil)
		}
		status, _, first := keyed(t, server.url, "a-key", tradeJSON("T4", "1"))
		require.Equal(t, http.StatusAccepted, status, first)
		server.await(t, "projected", func() bool { return m.move() == nil })
		require.Equal(t, 2, m.generation())
		require.NoError(t, m.move(), "again")
		require.Equal(t, 2, m.generation())
		require.NoError(t, Migrate(t.Context(), m.plain(m.next), zerolog.Nop()),
			"a plain migrate with the new settings changes nothing")
		require.ErrorContains(t, Migrate(t.Context(), m.from, zerolog.Nop()), "the database follows topic")
		require.False(t, m.posts(m.from.Kafka.Topic), "nobody opens the old topic again")

		// A server that has not noticed gets nothing in, and says so. A worker stops.
		status, answer := send(t, http.MethodPost, server.url+"/api/v1/trades", tradeJSON("T5", "1"))
		require.Equal(t, http.StatusServiceUnavailable, status, answer)
		orphan, _ := answer["request_id"].(string)
		require.NotEmpty(t, orphan)
		select {
		case <-worker.ended:
			// By a check, or when it asked for its positions.
			require.Equal(t, trade.Broken, trade.ClassOf(worker.err), worker.err)
		case <-time.After(patience):
			require.Fail(t, "still running", worker.log.String())
		}
		late := m.server(m.from.Kafka)
		<-late.ended
		require.ErrorIs(t, late.err, checks.ErrWrong, "one that starts late stops at once")

		next, after := m.server(m.next.Kafka), m.worker(m.next.Kafka)
		next.awaitReady(t)
		after.awaitReady(t)
		next.ends(t, orphan, "FAILED", "NOT_DELIVERED")
		next.ends(t, next.post(t, "T1", "7"), "SUCCESS", nil)
		low, _ := send(t, http.MethodPost, next.url+"/api/v1/trades", tradeJSON("T1", "6"))
		require.Equal(t, http.StatusBadRequest, low, "a version of the generation before counts")
		status, header, again := keyed(t, next.url, "a-key", tradeJSON("T4", "1"))
		require.Equal(t, http.StatusAccepted, status, again)
		require.NotEmpty(t, header.Get("Idempotency-Replayed"))
		var generation int
		row := m.pool.QueryRow(t.Context(), "SELECT src_generation FROM trades WHERE trade_id = 'T1' AND version = 7")
		require.NoError(t, row.Scan(&generation))
		require.Equal(t, 2, generation, "the later record replaces, although its offset is lower")

		list, err := Check(t.Context(), m.check())
		require.NoError(t, err)
		require.NoError(t, checks.Err(list))
		require.Contains(t, list, checks.Compare("T1", "generation of the topic", "the newest", "2", true))
	}
	t.Run("embedded", func(t *testing.T) { run(t, stack.Kafka(t)) })
	t.Run("apache", func(t *testing.T) { run(t, stack.SharedApacheKafka(t)) })
}

// promise changes how long the servers may take, and so how long a move waits for them.
func (m *mover) promise(deadline time.Duration) {
	m.t.Helper()
	m.next.Promise = PromiseFlags{DeadlineFlags{deadline}, time.Second, 2*deadline + 2*time.Second}
	m.allow(m.t, m.next.Promise)
}

func (m *mover) move() error { return Migrate(m.t.Context(), m.next, zerolog.Nop()) }

// plain is c without the move.
func (m *mover) plain(c MigrateConfig) MigrateConfig {
	c.NewGeneration = false
	return c
}

func (m *mover) check() CheckConfig {
	c := *defaults[CheckConfig](m.t)
	c.Promise = m.next.Promise
	c.Database, c.Kafka, c.Profile, c.Timeout = m.from.Database, m.next.Kafka, m.from.Profile, patience
	return c
}

// Whatever is left to do keeps the database where it is, and the topic in use.
func TestTheDatabaseStaysWhereWorkIsLeft(t *testing.T) {
	f := func(name, want string, spoil func(*mover)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			m := newMover(t, stack.Kafka(t))
			spoil(m)
			require.ErrorContains(t, m.move(), want)
			require.Equal(t, 1, m.generation())
			require.True(t, m.posts(m.from.Kafka.Topic), "still in use")
		})
	}
	applied := func(m *mover) string { // one record, applied and projected
		server, worker := m.server(m.from.Kafka), m.worker(m.from.Kafka)
		server.awaitReady(m.t)
		id := server.post(m.t, "T1", "1")
		server.ends(m.t, id, "SUCCESS", nil)
		server.await(m.t, "projected", func() bool {
			var projected int
			row := m.pool.QueryRow(m.t.Context(), "SELECT max(projected_offset) FROM projection_cursor")
			return row.Scan(&projected) == nil && projected == 1
		})
		require.NoError(m.t, worker.drain())
		return id
	}
	closed := func(m *mover) { require.NoError(m.t, kafka.CloseTopic(m.t.Context(), m.client, m.from.Kafka.Topic)) }

	f("a record not applied", "position of partition 0 expected 1, where its log ends, seen: 0",
		func(m *mover) { m.posts(m.from.Kafka.Topic) })
	f("an outcome not projected", "the workers have outcomes to show", func(m *mover) {
		applied(m)
		m.exec("UPDATE projection_cursor SET projected_offset = 0")
	})
	f("a request PENDING", "seen: 1 PENDING, the oldest is", func(m *mover) { orphan(m.t, m.log) })
	f("many requests PENDING", "seen: 100 or more PENDING", func(m *mover) {
		for range fewPending {
			orphan(m.t, m.log)
		}
	})
	f("closed by a run that died, and a request PENDING", "seen: 1 PENDING", func(m *mover) {
		closed(m)
		orphan(m.t, m.log)
	})
	f("the new topic has records", "is not new: partition 0 expected empty, seen: 1 records", func(m *mover) {
		_, err := m.next.createTopic(m.t.Context())
		require.NoError(m.t, err)
		require.True(m.t, m.posts(m.next.Kafka.Topic))
	})
	f("the new topic has other partitions", "expected with 5 partitions, seen: 4", func(m *mover) {
		other := m.next
		other.Kafka.Partitions = 4
		_, err := other.createTopic(m.t.Context())
		require.NoError(m.t, err)
	})
	f("fewer partitions", "has 3 partitions, a new generation takes as many or more, not 2 (--partitions)",
		func(m *mover) { m.next.Kafka.Partitions = 2 })
	f("no other topic", "keeps its 3 partitions; --new-generation takes another --topic for 5",
		func(m *mover) { m.next.Kafka.Topic = m.from.Kafka.Topic })
	f("too many replicas", "one machine takes --profile single", func(m *mover) { m.next.Profile.Profile = "production" })
	f("another migrate runs", "another 'tradestore migrate' runs (--wait 200ms)", func(m *mover) {
		m.next.Wait = 200 * time.Millisecond
		topics, err := postgres.LockTopics(m.t.Context(), m.pool)
		require.NoError(m.t, err)
		m.t.Cleanup(topics.Release)
	})

	t.Run("after one that ended well", func(t *testing.T) {
		m := newMover(t, stack.Kafka(t))
		applied(m)
		closed(m) // the run died here: the same command goes on
		require.NoError(t, m.move())
		require.Equal(t, 2, m.generation())
	})
	t.Run("a plain migrate opens what a run that died has closed", func(t *testing.T) {
		m := newMover(t, stack.Kafka(t))
		closed(m)
		require.False(t, m.posts(m.from.Kafka.Topic))
		require.NoError(t, Migrate(t.Context(), m.from, zerolog.Nop()))
		require.True(t, m.posts(m.from.Kafka.Topic))
	})
	t.Run("nothing to move from", func(t *testing.T) {
		s := deployment{stack.Database(t), stack.Kafka(t)}
		c := s.migrateConfig(t)
		c.NewGeneration = true
		require.ErrorContains(t, Migrate(t.Context(), c, zerolog.Nop()), "there are none yet: run tradestore migrate")
	})
	t.Run("the topic is another one", func(t *testing.T) {
		m := newMover(t, stack.Kafka(t))
		m.exec("UPDATE ingest_offsets SET topic_id = '00000000-0000-0000-0000-000000000001'")
		require.ErrorContains(t, m.move(), "it was created anew")
		m.exec("UPDATE ingest_offsets SET topic = 'gone'")
		require.ErrorContains(t, m.move(), "cannot leave topic gone")
	})
}

// What turns up while the topic is closed, and a signal, open it again.
func TestAMoveThatDoesNotEndWellOpensTheTopicAgain(t *testing.T) {
	f := func(name string, deadline time.Duration, disturb func(m *mover, cancel context.CancelFunc), want string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			m := newMover(t, stack.Kafka(t))
			m.promise(deadline)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended, log := make(chan error, 1), &safeBuffer{}
			go func() { ended <- Migrate(ctx, m.next, zerolog.New(log)) }()
			closed := func() bool { return strings.Contains(log.String(), "the topic takes no more records") }
			require.Eventually(t, closed, patience, time.Millisecond)
			require.False(t, m.posts(m.from.Kafka.Topic))
			disturb(m, cancel)
			require.ErrorContains(t, <-ended, want)
			require.Equal(t, 1, m.generation())
			require.True(t, m.posts(m.from.Kafka.Topic))
		})
	}
	f("a request is opened", 3*time.Second, func(m *mover, _ context.CancelFunc) { orphan(m.t, m.log) },
		"which is still in use: requests expected to have ended, seen: 1 PENDING")
	f("a signal", time.Hour, func(_ *mover, cancel context.CancelFunc) { cancel() },
		"which is still in use: context canceled")

	t.Run("the session is lost", func(t *testing.T) {
		m := newMover(t, stack.Kafka(t))
		m.promise(2 * time.Second)
		ended, log := make(chan error, 1), &safeBuffer{}
		go func() { ended <- Migrate(t.Context(), m.next, zerolog.New(log)) }()
		closed := func() bool { return strings.Contains(log.String(), "the topic takes no more records") }
		require.Eventually(t, closed, patience, time.Millisecond)
		m.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'tradestore-migrate'`)
		err := <-ended
		require.ErrorContains(t, err, "the same command goes on from there, "+
			"'tradestore migrate --topic "+m.from.Kafka.Topic+" --partitions 3' opens it")
		require.False(t, m.posts(m.from.Kafka.Topic), "another run may have come in between")
		require.NoError(t, m.move())
		require.Equal(t, 2, m.generation())
	})
}

func TestTheDatabaseStaysWhileARequestOnDynamoDBIsPending(t *testing.T) {
	s := newDynamoStack(t)
	require.NoError(t, s.migrate(t))
	next := s.migrateConfig(t)
	next.RequestStore, next.NewGeneration = s.requests, true
	next.Kafka.Topic = "trades-2"
	env := Env{Registry: prometheus.NewRegistry(), Log: zerolog.Nop(), Now: time.Now}
	requests, err := s.requests.open(t.Context(), nil, time.Hour, env)
	require.NoError(t, err)
	defer requests.close()
	orphan(t, requests.entries)
	require.ErrorContains(t, Migrate(t.Context(), next, zerolog.Nop()), "seen: 1 PENDING")

	w := s.workerConfig(t)
	w.RequestStore = s.requests
	w.Promise = quickPromise
	s.allow(t, w.Promise)
	w.Worker.OrphanInterval = 50 * time.Millisecond
	worker := start(t, func(ctx context.Context, env Env) error { return RunWorker(ctx, w, env) })
	worker.await(t, "the end of the request", func() bool { return Migrate(t.Context(), next, zerolog.Nop()) == nil })
}
