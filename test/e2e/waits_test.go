package e2e

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

// A client that waits gets the outcome from the call itself.
func (s *deployment) testWaits(t *testing.T) {
	tr := s.ledger.newTrade("WAIT-1", 1)
	body, err := json.Marshal(DocumentOf(tr))
	require.NoError(t, err)
	p := &Post{Trade: tr, Sent: time.Now(), CorrelationID: "waits"}
	a := s.call(t, http.MethodPost, "/api/v1/trades", string(body), "Content-Type: application/json",
		"X-Correlation-ID: waits", "Prefer: wait=20")
	require.Equal(t, http.StatusOK, a.Status, string(a.Body))
	require.Equal(t, "wait=20", a.Header.Get("Preference-Applied"))
	said := a.json(t)
	require.Equal(t, "SUCCESS", said["status"])
	id, err := trade.ParseRequestID(said["request_id"].(string))
	require.NoError(t, err)
	// an outcome promises what a 202 does
	p.Answered, p.Status, p.RequestID, p.RetryAfter = time.Now(), http.StatusAccepted, id, "0"
	s.ledger.Add(p)
	require.Equal(t, said, s.get(t, a.Header.Get("Location")).json(t), "an end stays")

	// The stream of a request that has ended tells its end and ends itself.
	events := s.get(t, "/api/v1/requests/"+id.String()+"/events")
	require.Equal(t, "text/event-stream", events.Header.Get("Content-Type"))
	require.Contains(t, string(events.Body), "event: success\nid: success\ndata: {\"request_id\":\""+id.String()+"\"")
	followed := s.follow(t, "WAIT-1")

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
		return lag["records_behind"].(float64) >= 2 && lag["oldest_unapplied_seconds"].(float64) > 0 &&
			len(lag["partitions"].([]any)) > 0
	}), "the lag is not seen")
	require.NoError(t, hold.Rollback(t.Context()))
	for _, want := range []struct {
		id     trade.RequestID
		status string
	}{{high.RequestID, "SUCCESS"}, {low.RequestID, "FAILED"}} {
		a = s.call(t, http.MethodGet, "/api/v1/requests/"+want.id.String(), "", "Prefer: wait=20")
		require.Equal(t, want.status, a.json(t)["status"])
	}
	require.Contains(t, followed(), high.RequestID.String())
	require.Contains(t, followed(), low.RequestID.String())
	require.True(t, poll(t, drainLimit, func() bool { return s.get(t, "/api/v1/lag").json(t)["records_behind"] == 0.0 }),
		"the lag stays")
}

// follow opens the stream of a trade and returns what reads the data of its next event.
func (s *deployment) follow(t *testing.T, tradeID string) func() string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.API+"/api/v1/events?trade_id="+tradeID,
		http.NoBody)
	require.NoError(t, err)
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	require.NoError(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
	require.Equal(t, http.StatusOK, resp.StatusCode)
	lines := bufio.NewReader(resp.Body)
	return func() string {
		for {
			line, err := lines.ReadString('\n')
			require.NoError(t, err)
			if data, ok := strings.CutPrefix(line, "data: "); ok {
				return data
			}
		}
	}
}
