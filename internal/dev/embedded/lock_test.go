package embedded

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := Lock(path)
	require.NoError(t, err)
	_, err = Lock(path)
	require.ErrorIs(t, err, ErrLocked)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = waitLock(ctx, path)
	require.ErrorIs(t, err, ErrLocked)

	waited := make(chan error)
	go func() {
		unlock, err := waitLock(t.Context(), path)
		if err == nil {
			unlock()
		}
		waited <- err
	}()
	unlock()
	require.NoError(t, <-waited)
	_, err = Lock(filepath.Join(path, "below a file"))
	require.ErrorContains(t, err, "cannot lock")
}
