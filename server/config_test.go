package server

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDefaultsAreRight(t *testing.T) {
	t.Parallel()
	c := DefaultConfig()
	require.NoError(t, c.Validate())
	require.Equal(t, 75*time.Second, c.IdleTimeout, "more than the 60 s of usual load balancers")
	require.Equal(t, 8192, c.QueueItems)
	require.Equal(t, 100*time.Millisecond, c.LookupTimeout)
}

// A batch that is late for PENDING must leave time for the record.
func TestOpenTimeoutIsDerivedFromTheAcceptDeadline(t *testing.T) {
	t.Parallel()
	c := DefaultConfig()
	c.Topic, c.Partitions, c.AcceptDeadline = testTopic, 1, 3*time.Second
	complete, err := c.complete()
	require.NoError(t, err)
	require.Equal(t, 2*time.Second, complete.OpenTimeout)
	c.OpenTimeout = c.AcceptDeadline + 1
	_, err = c.complete()
	require.ErrorContains(t, err, "open-timeout")
}
