package e2e

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/kafka"
	"tradestore/trade"
)

// partitions is the number that `tradestore migrate` and `tradestore dev` make unless told otherwise.
const partitions = 12

// answer is an HTTP answer with the questions that the scripts ask of it.
type answer struct{ Answer }

// call sends one request. Headers are given as "Name: value".
func (s *deployment) call(t *testing.T, method, path, body string, headers ...string) answer {
	t.Helper()
	h := http.Header{}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		h[name] = append(h[name], value) // not Add: tests choose the spelling
	}
	a, err := s.client.Do(t.Context(), method, path, h, []byte(body))
	require.NoError(t, err)
	return answer{a}
}

func (s *deployment) get(t *testing.T, path string) answer {
	t.Helper()
	return s.call(t, http.MethodGet, path, "")
}

func (s *deployment) postRaw(t *testing.T, body string) answer {
	t.Helper()
	return s.call(t, http.MethodPost, "/api/v1/trades", body, "Content-Type: application/json")
}

// json reads the body of a 200 or 202 as an object.
func (a answer) json(t *testing.T) map[string]any {
	t.Helper()
	require.Contains(t, a.Header.Get("Content-Type"), "application/json", string(a.Body))
	var fields map[string]any
	require.NoError(t, json.Unmarshal(a.Body, &fields), string(a.Body))
	return fields
}

// refused expects a problem document (RFC 9457) with the status, the code and the fields in errors[] given.
func (a answer) refused(t *testing.T, status int, code trade.Code, fields ...string) {
	t.Helper()
	assert.Equal(t, status, a.Status, string(a.Body))
	assert.Equal(t, "application/problem+json", a.Header.Get("Content-Type"))
	var p Problem
	require.NoError(t, json.Unmarshal(a.Body, &p), string(a.Body))
	assert.Equal(t, status, p.Status)
	assert.Equal(t, code, p.Code, string(a.Body))
	assert.NotEmpty(t, p.Detail)
	assert.Equal(t, a.Header.Get("X-Correlation-ID"), p.CorrelationID)
	assert.NotEmpty(t, p.CorrelationID)
	var got []string
	for _, e := range p.Errors {
		got = append(got, e.Field+" "+string(e.Code))
	}
	if fields != nil {
		assert.Equal(t, fields, got, string(a.Body))
	}
}

// submit posts a good trade and expects 202.
func (s *deployment) submit(t *testing.T, tr trade.Trade) *Post {
	t.Helper()
	p := s.client.Submit(t.Context(), tr)
	require.Equal(t, http.StatusAccepted, p.Status, "%s %s", p.Code, tr.TradeID)
	return p
}

// ends waits until a request is decided and expects the outcome given.
func (s *deployment) ends(t *testing.T, id trade.RequestID, status trade.Status, reason trade.Code) {
	t.Helper()
	var got State
	decided := poll(t, drainLimit, func() bool {
		var found bool
		var err error
		got, found, err = s.client.PatientStatus(t.Context(), id)
		require.NoError(t, err)
		require.True(t, found, "request %s is unknown", id)
		return got.Status.Terminal()
	})
	require.True(t, decided, "request %s stays PENDING", id)
	require.Equal(t, status, got.Status)
	require.Equal(t, reason, got.Reason)
}

// stored posts a good trade and waits until it is stored.
func (s *deployment) stored(t *testing.T, tr trade.Trade) *Post {
	t.Helper()
	p := s.submit(t, tr)
	s.ends(t, p.RequestID, trade.Success, "")
	return p
}

// versions returns what GET shows of a trade, ascending by version.
func (s *deployment) versions(t *testing.T, id string) []Item {
	t.Helper()
	a := s.get(t, "/api/v1/trades/"+id)
	require.Equal(t, http.StatusOK, a.Status, string(a.Body))
	var said struct {
		TradeID string `json:"trade_id"`
		Items   []Item `json:"items"`
	}
	require.NoError(t, json.Unmarshal(a.Body, &said))
	require.Equal(t, id, said.TradeID)
	return said.Items
}

// Item is a trade as the reads show it.
type Item struct {
	Document
	Expired bool `json:"expired"`
}

// record returns the log record of a trade that was accepted at the instant given.
func (s *deployment) record(tr trade.Trade, at time.Time) *kgo.Record {
	at = at.UTC().Truncate(time.Microsecond)
	return kafka.Encode(s.Topic, &trade.Request{
		ID: trade.NewRequestID(at), Trade: tr, AcceptedAt: at, BusinessDate: trade.DateOf(at),
		Partition: kafka.Partition(tr.TradeID, partitions), CorrelationID: "injected-" + tr.CounterpartyID,
	})
}

// inject writes records straight to the topic, one after the other, past the server and its checks.
func (s *deployment) inject(t *testing.T, records ...*kgo.Record) {
	t.Helper()
	producer, err := kgo.NewClient(kgo.SeedBrokers(s.Kafka...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	defer producer.Close()
	for _, rec := range records {
		done, err := producer.ProduceSync(t.Context(), rec).First()
		require.NoError(t, err)
		s.ledger.Inject(Slot{done.Partition, done.Offset})
	}
}

// keys returns the names of an object's fields, sorted.
func keys(object map[string]any) []string { return slices.Sorted(maps.Keys(object)) }
