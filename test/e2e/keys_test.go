package e2e

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

// soonClosed lets a request that was never delivered end a few seconds after it was made.
var soonClosed = []string{"TRADESTORE_ACCEPT_DEADLINE=1500ms", "TRADESTORE_DELIVERY_TIMEOUT=1s",
	"TRADESTORE_ORPHAN_AFTER=5s", "TRADESTORE_ORPHAN_INTERVAL=200ms"}

// A server is killed while it takes a trade, and its client repeats the call with the same idempotency key until it
// gets a 202, from whichever server. Wherever the first call was cut, the trade is stored once: the record that made it
// to the log is the one, or the orphan reaper says that none did and the repeat makes it.
func TestRepeatedWithAKeyAfterAKill(t *testing.T) {
	t.Parallel()
	on(t, testRepeatedWithAKeyAfterAKill, onDev, onReal, onDynamoDB)
}

func testRepeatedWithAKeyAfterAKill(t *testing.T, s *deployment) {
	t.Helper()
	s.path, s.env = s.build(t, "failpoint"), append(s.env, soonClosed...)
	s.start(t)
	f := func(point string, delivered bool) {
		t.Helper()
		doomed := s.first("server")
		doomed.proc.Terminate(t)
		s.start(t, "TRADESTORE_FAILPOINT="+point+":1")
		body, err := json.Marshal(DocumentOf(s.ledger.newTrade(point, 1)))
		require.NoError(t, err)
		send := func() (Answer, error) {
			return s.client.Do(t.Context(), http.MethodPost, "/api/v1/trades",
				http.Header{"Content-Type": {"application/json"}, "Idempotency-Key": {point}}, body)
		}
		s.client.Use(doomed.base)
		_, err = send()
		require.ErrorIs(t, err, ErrNoAnswer)
		doomed.proc.Exit(t)
		s.start(t)
		s.client.Use(s.running()...)

		var last answer
		require.True(t, poll(t, drainLimit, func() bool {
			a, err := send()
			require.NoError(t, err)
			last = answer{a}
			if a.Status == http.StatusConflict {
				last.refused(t, http.StatusConflict, "REQUEST_IN_PROGRESS")
			}
			return a.Status == http.StatusAccepted
		}), "%s", last.Body)
		attempt := 1
		if delivered {
			attempt = 0
		}
		id := trade.DeriveRequestID("", trade.IdempotencyKey(point), attempt)
		assert.Equal(t, id.String(), last.json(t)["request_id"])
		assert.Equal(t, delivered, last.Header.Get("Idempotency-Replayed") != "")
		s.ends(t, id, trade.Success, "")

		again, err := send()
		require.NoError(t, err)
		assert.Equal(t, http.StatusAccepted, again.Status)
		assert.Equal(t, "true", again.Header.Get("Idempotency-Replayed"))
		assert.Equal(t, string(last.Body), string(again.Body))
		assert.Len(t, s.versions(t, point), 1)
		var stored int
		row := s.connect(t).QueryRow(t.Context(), "SELECT count(*) FROM journal WHERE outcome = 'SUCCESS' AND trade_id = $1",
			point)
		require.NoError(t, row.Scan(&stored))
		assert.Equal(t, 1, stored)
	}
	f("afterPending", false)
	f("beforeProduce", false)
	f("afterAckBefore202", true)
	s.stop(t)
}
