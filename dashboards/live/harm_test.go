package live

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/dynamo"
	"tradestore/trade"
)

func (s *deployment) client(t *testing.T) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.kafka.Addrs()...))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return client
}

// spoil puts a record into the log that no server would write.
func (s *deployment) spoil(t *testing.T) {
	t.Helper()
	require.NoError(t, s.client(t).ProduceSync(t.Context(), &kgo.Record{Topic: topic, Key: []byte("T"),
		Value: []byte("{")}).FirstErr())
}

// orphan tracks a request of long ago, as a server does that dies before it produces the record.
func (s *deployment) orphan(t *testing.T) {
	t.Helper()
	log, err := dynamo.Open(t.Context(), dynamo.Config{Table: "trade-requests", Endpoint: s.dynamo.Endpoint(), Conns: 1},
		prometheus.NewRegistry(), zerolog.Nop())
	require.NoError(t, err)
	defer log.Close()
	at := time.Now().UTC().Truncate(time.Microsecond).Add(-10 * time.Minute)
	r := &trade.Request{ID: trade.NewRequestID(at), AcceptedAt: at, BusinessDate: trade.DateOf(at),
		Trade: trade.Trade{TradeID: "ORPHAN", Version: 1}}
	require.Nil(t, log.Open(t.Context(), []*trade.Request{r}))
}

// moveBack makes the worker believe in positions that are not those of the database, as if another one had them. It
// finds out at its next batch, and reads again what is decided, which changes nothing.
func (s *deployment) moveBack(t *testing.T) {
	t.Helper()
	require.Positive(t, s.exec(t, "UPDATE ingest_offsets SET next_offset = next_offset - 1 WHERE next_offset > 0"))
}

// exec changes the database behind the back of the worker, and returns how many rows.
func (s *deployment) exec(t *testing.T, sql string) int64 {
	t.Helper()
	db, err := pgx.Connect(t.Context(), s.postgres.URL())
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close(t.Context())) }()
	done, err := db.Exec(t.Context(), sql)
	require.NoError(t, err)
	return done.RowsAffected()
}

// submit has one trade accepted.
func (s *deployment) submit(t *testing.T) {
	t.Helper()
	const body = `{"trade_id":"LAST","version":1,"counterparty_id":"CP-1","book_id":"B1",` +
		`"maturity_date":"9998-12-31","created_date":"2026-01-02"}`
	answer, err := http.Post("http://"+address(s.server)+"/api/v1/trades", "application/json", strings.NewReader(body))
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusAccepted, answer.StatusCode)
}

// slowKafka freezes the broker again and again until the function that it returns is called.
func (s *deployment) slowKafka(t *testing.T) (repair func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for pause := true; ; pause = !pause {
			turn, wait := s.kafka.Resume, 100*time.Millisecond
			if pause {
				turn, wait = s.kafka.Pause, 400*time.Millisecond
			}
			assert.NoError(t, turn())
			select {
			case <-ctx.Done():
				assert.NoError(t, s.kafka.Resume())
				return
			case <-time.After(wait):
			}
		}
	}()
	repair = func() { cancel(); <-done }
	t.Cleanup(repair)
	return repair
}

// recreate deletes the topic and makes another one of its name.
func (s *deployment) recreate(t *testing.T) {
	t.Helper()
	admin := kadm.NewClient(s.client(t))
	_, err := admin.DeleteTopic(t.Context(), topic)
	require.NoError(t, err)
	require.True(t, eventually(t, func() bool { // it takes a moment to be gone
		_, err = admin.CreateTopic(t.Context(), 12, 1, nil, topic)
		return err == nil
	}), "%v", err)
}
