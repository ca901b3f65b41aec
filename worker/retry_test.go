package worker

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The pause before a repeat is random, positive, and bounded however many failures there were.
func TestPauseIsBounded(t *testing.T) {
	t.Parallel()
	r := &retrier{min: 50 * time.Millisecond, max: 5 * time.Second}
	for failures := range 1000 {
		pause := r.pause(failures)
		require.Positive(t, pause)
		require.LessOrEqual(t, pause, r.max)
		if failures == 0 {
			require.LessOrEqual(t, pause, r.min)
		}
	}
}
