package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

// Bulk requests share trades with each other and with single posts: every 202 among them keeps what a single one
// promises, and each request the order of its trades.
func TestBulk(t *testing.T) { t.Parallel(); on(t, testBulk, onDev, onReal) }

func testBulk(t *testing.T, s *deployment) {
	t.Helper()
	const clients, rounds, most = 8, 5, 60
	s.start(t)
	var posts sync.WaitGroup
	for client := range clients {
		posts.Go(func() {
			for round := range rounds {
				trades := make([]trade.Trade, 1+rand.IntN(most))
				for i := range trades {
					trades[i] = s.ledger.newTrade(fmt.Sprintf("HOT-%d", rand.IntN(20)), int32(1+rand.IntN(5)))
				}
				key := ""
				if client%2 == 0 {
					key = fmt.Sprintf("%d.%d", client, round)
				}
				s.client.SubmitBulk(t.Context(), key, trades...)
				s.client.Submit(t.Context(), s.ledger.newTrade(fmt.Sprintf("HOT-%d", rand.IntN(20)), int32(1+rand.IntN(5))))
			}
		})
	}
	posts.Wait()
	s.check(t)
	answers := s.ledger.Count()
	require.Zero(t, answers[0], "%v", answers)
	require.Greater(t, answers[http.StatusAccepted], clients*rounds, "%v", answers)

	var whole []trade.Trade
	for i := range 1000 {
		whole = append(whole, s.ledger.newTrade(fmt.Sprintf("NEW-%d", i), 1))
	}
	taken := s.client.SubmitBulk(t.Context(), "whole", whole...)
	for _, p := range taken {
		require.Equal(t, http.StatusAccepted, p.Status, "%s", p.Code)
	}
	s.check(t)
	s.repeated(t, taken)
	s.stop(t)
}

// repeated sends a request again that has been decided, under the key "whole", and expects the same answers.
func (s *deployment) repeated(t *testing.T, taken []*Post) {
	t.Helper()
	var documents []string
	for _, p := range taken {
		text, err := json.Marshal(DocumentOf(p.Trade))
		require.NoError(t, err)
		documents = append(documents, string(text))
	}
	a := s.call(t, http.MethodPost, "/api/v1/trades:batch", "["+strings.Join(documents, ",")+"]",
		"Content-Type: application/json", "Idempotency-Key: whole")
	require.Equal(t, http.StatusMultiStatus, a.Status)
	for i, item := range a.json(t)["items"].([]any) {
		fields := item.(map[string]any)
		assert.Equal(t, taken[i].RequestID.String(), fields["request_id"])
		assert.Equal(t, true, fields["replayed"])
	}
	s.drained(t)
}
