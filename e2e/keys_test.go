package e2e

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

// A server is killed while it takes a trade, and its client repeats the call with the same idempotency key until it gets
// a 202. Wherever the first call was cut, the trade is stored once: the record that made it to the log is the one, or the
// resolver says that none did and the repeat makes it.
func TestRepeatedWithAKeyAfterAKill(t *testing.T) {
	f := func(point string, delivered bool) {
		t.Run(point, func(t *testing.T) {
			s := newRoles(t, embeddedStores(t), 1, 1)
			s.path = breakingBinary(t)
			s.env = append(s.env, "TRADESTORE_ACCEPT_DEADLINE=1s", "TRADESTORE_OPEN_TIMEOUT=1s", "TRADESTORE_DELIVERY_TIMEOUT=1s",
				"TRADESTORE_RESOLVE_AFTER=4s", "TRADESTORE_RESOLVE_INTERVAL=200ms")
			s.start(t, "TRADESTORE_FAILPOINT="+point+":1")
			body, err := json.Marshal(DocumentOf(s.ledger.newTrade("T1", 1)))
			require.NoError(t, err)
			send := func() (Answer, error) {
				return s.client.Do(t.Context(), http.MethodPost, "/api/v1/trades",
					http.Header{"Content-Type": {"application/json"}, "Idempotency-Key": {"k"}}, body)
			}
			_, err = send()
			require.ErrorIs(t, err, ErrNoAnswer)
			s.roles[0].proc.exit(t)
			s.start(t)

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
			id := trade.DeriveRequestID("", "k", attempt)
			assert.Equal(t, id.String(), last.json(t)["request_id"])
			assert.Equal(t, delivered, last.Header.Get("Idempotency-Replayed") != "")
			s.ends(t, id, trade.Success, "")

			again, err := send()
			require.NoError(t, err)
			assert.Equal(t, http.StatusAccepted, again.Status)
			assert.Equal(t, "true", again.Header.Get("Idempotency-Replayed"))
			assert.Equal(t, string(last.Body), string(again.Body))
			assert.Len(t, s.versions(t, "T1"), 1)
			conn := s.connect(t)
			var stored int
			require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM submissions WHERE outcome = 'SUCCESS'").Scan(&stored))
			assert.Equal(t, 1, stored)
			s.stop(t)
		})
	}
	f("afterPending", false)
	f("beforeProduce", false)
	f("afterAckBefore202", true)
}
