package e2e

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

// A client that waits gets the outcome from the call itself.
func (s *stack) testWaits(t *testing.T) {
	tr := s.ledger.newTrade("WAIT-1", 1)
	body, err := json.Marshal(DocumentOf(tr))
	require.NoError(t, err)
	p := &Post{Trade: tr, Sent: time.Now(), CorrelationID: "waits"}
	a := s.call(t, http.MethodPost, "/api/v1/trades", string(body), "Content-Type: application/json", "X-Correlation-ID: waits", "Prefer: wait=20")
	require.Equal(t, http.StatusOK, a.Status, string(a.Body))
	require.Equal(t, "wait=20", a.Header.Get("Preference-Applied"))
	said := a.json(t)
	require.Equal(t, "SUCCESS", said["status"])
	id, err := trade.ParseRequestID(said["request_id"].(string))
	require.NoError(t, err)
	p.Answered, p.Status, p.RequestID, p.RetryAfter = time.Now(), http.StatusAccepted, id, "0" // an outcome promises what a 202 does
	s.ledger.Add(p)
	require.Equal(t, said, s.get(t, a.Header.Get("Location")).json(t), "an end stays")

	// Of a request that is under way, a read waits as well: the worker is held back until both wait.
	hold, err := s.connect(t).Begin(t.Context())
	require.NoError(t, err)
	_, err = hold.Exec(t.Context(), `LOCK TABLE ingest_offsets IN EXCLUSIVE MODE`)
	require.NoError(t, err)
	high, low := s.submit(t, s.ledger.newTrade("WAIT-1", 5)), s.submit(t, s.ledger.newTrade("WAIT-1", 4))
	a = s.call(t, http.MethodGet, "/api/v1/requests/"+low.RequestID.String(), "", "Prefer: wait=1")
	require.Equal(t, "PENDING", a.json(t)["status"], "nothing ends while the worker is held")
	require.NotEmpty(t, a.Header.Get("Retry-After"))
	require.True(t, poll(t, drainLimit, func() bool {
		lag := s.get(t, "/api/v1/lag").json(t)
		return lag["records_behind"].(float64) >= 2 && lag["oldest_unsettled_seconds"].(float64) > 0 && len(lag["partitions"].([]any)) > 0
	}), "the lag is not seen")
	require.NoError(t, hold.Rollback(t.Context()))
	for _, want := range []struct {
		id     trade.RequestID
		status string
	}{{high.RequestID, "SUCCESS"}, {low.RequestID, "FAILED"}} {
		a = s.call(t, http.MethodGet, "/api/v1/requests/"+want.id.String(), "", "Prefer: wait=20")
		require.Equal(t, want.status, a.json(t)["status"])
	}
	require.True(t, poll(t, drainLimit, func() bool { return s.get(t, "/api/v1/lag").json(t)["records_behind"] == 0.0 }), "the lag stays")
}
