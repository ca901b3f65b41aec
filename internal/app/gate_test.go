package app

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

// A shut gate asks no request store, and what it refuses has no effect.
func TestAShutGateLetsNothingIn(t *testing.T) {
	g := &gate{} // any call of a log would be a panic
	for _, errs := range [][]error{
		g.Open(t.Context(), make([]*trade.Request, 2)),
		g.OpenKeyed(t.Context(), make([]*trade.KeyedRequest, 2)),
	} {
		require.Len(t, errs, 2)
		for _, err := range errs {
			require.ErrorIs(t, err, trade.ErrNotOpened)
			require.ErrorIs(t, err, errUnverified)
		}
	}
}
