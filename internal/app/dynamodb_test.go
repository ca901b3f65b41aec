package app

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/dynamo"
	"tradestore/kafka"
	"tradestore/test/stack"
	"tradestore/trade"
)

// dynamoStack is a stack whose request store is on DynamoDB. Doors stand before both stores of data.
type dynamoStack struct {
	deployment
	requests                RequestStoreFlags
	database, table         *door
	databaseURL, dynamoAddr string // behind the doors
}

func newDynamoStack(t *testing.T) *dynamoStack {
	t.Helper()
	for name, value := range map[string]string{ // nothing of the machine's own settings
		"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	} {
		t.Setenv(name, value)
	}
	s := &dynamoStack{databaseURL: stack.Database(t), dynamoAddr: stack.DynamoDB(t)}
	s.database, s.table = newDoor(t, s.databaseURL), newDoor(t, s.dynamoAddr)
	s.database.open(t, s.databaseURL)
	s.table.open(t, s.dynamoAddr)
	s.deployment = deployment{s.database.url, stack.Kafka(t)}
	table := fmt.Sprintf("role-%d-%d", os.Getpid(), time.Now().UnixNano())
	s.requests = RequestStoreFlags{Kind: onDynamoDB, Table: table, Endpoint: s.table.url}
	return s
}

func (s *dynamoStack) migrate(t *testing.T) error {
	t.Helper()
	c := s.migrateConfig(t)
	c.RequestStore = s.requests
	return Migrate(t.Context(), c, zerolog.New(zerolog.NewTestWriter(t)))
}

func (s *dynamoStack) server(t *testing.T) *running {
	t.Helper()
	c := s.serverConfig(t)
	c.RequestStore = s.requests
	c.Promise.AcceptDeadline = 30 * time.Second // under the race detector
	c.Promise.OrphanAfter = 2 * time.Minute
	deployment{database: s.databaseURL}.allow(t, c.Promise)
	return start(t, func(ctx context.Context, env Env) error { return RunServer(ctx, c, env) })
}

func (s *dynamoStack) worker(t *testing.T) *running {
	t.Helper()
	c := s.workerConfig(t)
	c.RequestStore = s.requests
	c.Worker.ProjectInterval = 20 * time.Millisecond
	return start(t, func(ctx context.Context, env Env) error { return RunWorker(ctx, c, env) })
}

// post submits a trade that is accepted and returns the id of its request.
func (r *running) post(t *testing.T, id, version string) string {
	t.Helper()
	status, answer := send(t, http.MethodPost, r.url+"/api/v1/trades", tradeJSON(id, version))
	require.Equal(t, http.StatusAccepted, status, answer)
	return answer["request_id"].(string)
}

// ends waits for the end of a request.
func (r *running) ends(t *testing.T, id, status string, reason any) {
	t.Helper()
	var answer map[string]any
	r.await(t, "the end of "+id, func() bool {
		_, answer = r.get(t, "/api/v1/requests/"+id)
		return answer["status"] == "SUCCESS" || answer["status"] == "FAILED"
	})
	require.Equal(t, []any{status, reason}, []any{answer["status"], answer["reason"]}, answer)
}

func TestRequestsOnDynamoDB(t *testing.T) {
	s := newDynamoStack(t)
	require.NoError(t, s.migrate(t))
	require.NoError(t, s.migrate(t), "again")
	server := s.server(t)
	server.awaitReady(t)
	high, low := server.post(t, "T1", "5"), server.post(t, "T1", "3") // in flight together: nothing is stored yet
	status, answer := server.get(t, "/api/v1/requests/"+low)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "PENDING", answer["status"])
	bad := s.putBroken(t)

	worker := s.worker(t)
	worker.awaitReady(t)
	server.ends(t, high, "SUCCESS", nil)
	server.ends(t, low, "FAILED", "STALE_VERSION")
	server.ends(t, bad, "FAILED", "INVALID_RECORD")
	status, answer = server.get(t, "/api/v1/trades/T1")
	require.Equal(t, http.StatusOK, status)
	require.Len(t, answer["items"], 1)
	status, answer = server.get(t, "/api/v1/health")
	require.Equal(t, http.StatusOK, status, answer)
	require.Contains(t, answer["checks"], "request_store")
	for _, role := range []*running{server, worker} {
		_, answer = role.get(t, "/metrics")
		require.Contains(t, answer["text"], "tradestore_dynamodb_requests_total{")
	}
	require.NoError(t, server.drain())
	require.NoError(t, worker.drain())
}

// putBroken tracks a request and puts a record for it straight into the topic that nobody can read.
func (s *dynamoStack) putBroken(t *testing.T) string {
	t.Helper()
	log, err := dynamo.Open(t.Context(), s.requests.config(), prometheus.NewRegistry(), zerolog.Nop())
	require.NoError(t, err)
	defer log.Close()
	accepted := time.Now().UTC().Truncate(time.Microsecond)
	r := &trade.Request{ID: trade.NewRequestID(accepted), AcceptedAt: accepted, BusinessDate: trade.DateOf(accepted),
		Trade: trade.Trade{TradeID: "T9", Version: 1}}
	require.Nil(t, log.Open(t.Context(), []*trade.Request{r}))
	cfg := KafkaFlags{Brokers: s.brokers, Topic: "trades-inbound"}.client("test")
	producer, err := kafka.NewProducer(cfg, prometheus.NewRegistry(), zerolog.Nop())
	require.NoError(t, err)
	defer producer.Close()
	record := kafka.Encode("trades-inbound", r)
	record.Value = []byte("not a trade")
	require.NoError(t, producer.ProduceSync(t.Context(), []*kgo.Record{record}...).FirstErr())
	return r.ID.String()
}

// With PostgreSQL down trades are accepted, and stored when it is back. With DynamoDB down none is accepted, what was
// accepted is stored, and its end shows when DynamoDB is back.
func TestOutagesWithRequestsOnDynamoDB(t *testing.T) {
	s := newDynamoStack(t)
	require.NoError(t, s.migrate(t))
	server, worker := s.server(t), s.worker(t)
	server.awaitReady(t)
	worker.awaitReady(t)

	s.database.shut()
	server.await(t, "the database shown as down", server.answers(t, "/api/v1/health", http.StatusServiceUnavailable))
	server.awaitReady(t)
	id := server.post(t, "T1", "1")
	s.table.shut()
	server.await(t, "not ready without DynamoDB", server.answers(t, "/readyz", http.StatusServiceUnavailable))
	status, answer := send(t, http.MethodPost, server.url+"/api/v1/trades", tradeJSON("T2", "1"))
	require.Equal(t, http.StatusServiceUnavailable, status, answer)
	status, _ = server.get(t, "/api/v1/requests/"+id)
	require.Equal(t, http.StatusServiceUnavailable, status, "unknown is not absent")

	s.database.open(t, s.databaseURL)
	server.await(t, "stored without DynamoDB", server.answers(t, "/api/v1/trades/T1", http.StatusOK))
	worker.await(t, "the projector tries", worker.says("cannot project outcomes"))
	s.table.open(t, s.dynamoAddr)
	server.ends(t, id, "SUCCESS", nil)
	server.awaitReady(t)
	server.ends(t, server.post(t, "T2", "1"), "SUCCESS", nil)
}

// A role does not work on a table that is not the one it relies on.
func TestAWrongTableStopsLoudly(t *testing.T) {
	s := newDynamoStack(t)
	require.NoError(t, Migrate(t.Context(), s.migrateConfig(t), zerolog.Nop()), "without the table")
	for _, role := range []*running{s.server(t), s.worker(t)} {
		select {
		case <-role.ended:
			require.ErrorContains(t, role.err, s.requests.Table)
			require.ErrorContains(t, role.err, "expected ACTIVE, seen: none")
		case <-time.After(patience):
			require.Fail(t, "still running", role.log.String())
		}
	}
}
