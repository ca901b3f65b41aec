package e2e

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every 202 has exactly one terminal status, every SUCCESS exactly one row or a later accepted replace, and the order
// per trade is kept.
func TestConcurrentPosts(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, s *deployment) {
		s.start(t)
		require.NoError(t, InstallAudit(t.Context(), s.Database))
		s.run(t.Context(), t, load{clients: 64, posts: int64(scale(10_000, 200_000)), hot: 500})
		ev := s.check(t)
		require.NotEmpty(t, ev.Applied, "the audit triggers saw nothing")
		answers := s.ledger.Count()
		require.Zero(t, answers[0], "posts without an answer: %v", answers)
		require.Greater(t, answers[http.StatusAccepted], scale(5_000, 100_000), "%v", answers)
		s.stop(t)
	}, onDev, onReal)
}
