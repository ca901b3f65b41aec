package cmd

import (
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/internal/app"
)

// A role that is a process of its own stays up before a fatal exit, so that a scrape sees why it stops (T9).
func TestServeDelaysAFatalExit(t *testing.T) {
	t.Parallel()
	p := &process{stdout: io.Discard, stderr: io.Discard}
	ran := false
	require.NoError(t, p.serve("server", app.LogFlags{Level: "error", Format: "json"}, func(env app.Env) error {
		ran = true
		require.Equal(t, 30*time.Second, env.ExitDelay)
		return nil
	}))
	require.True(t, ran)
}
