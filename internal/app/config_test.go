package app

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Settings that several commands share reach the role.
func TestServerRoleTakesSharedSettings(t *testing.T) {
	t.Parallel()
	c := defaults[ServerConfig](t, "--topic", "t", "--partitions", "7", "--accept-deadline", "4s",
		"--delivery-timeout", "5s", "--queue-items", "8", "--queue-bytes", "1000000",
		"--kafka-compression", "lz4", "--kafka-brokers", "k:1")
	s := c.Role()
	require.Equal(t, "t", s.Topic)
	require.Equal(t, 7, s.Partitions)
	require.Equal(t, 4*time.Second, s.AcceptDeadline)
	require.Equal(t, 8, s.QueueItems)
	require.NoError(t, s.Validate())

	k := c.producer()
	require.Equal(t, []string{"k:1"}, k.Brokers)
	require.Equal(t, "t", k.Topic)
	require.Equal(t, "lz4", k.Compression)
	require.Equal(t, 5*time.Second, k.DeliveryTimeout)
	require.Equal(t, []int{8, 1_000_000}, []int{k.MaxBufferedRecords, k.MaxBufferedBytes},
		"the producer takes what the queue lets in")
	require.Zero(t, k.Linger)
}

func TestWorkerRoleTakesSharedSettings(t *testing.T) {
	t.Parallel()
	c := defaults[WorkerConfig](t, "--topic", "t", "--partitions", "7", "--accept-deadline", "1s",
		"--delivery-timeout", "2s", "--orphan-after", "3m", "--check-interval", "4s", "--drain-timeout", "15s",
		"--lanes", "6", "--kafka-brokers", "k:1")
	w := c.Role()
	require.Equal(t, "t", w.Kafka.Topic)
	require.Equal(t, []string{"k:1"}, w.Kafka.Brokers)
	require.Equal(t, 7, w.Partitions)
	require.Equal(t, []time.Duration{time.Second, 2 * time.Second, 3 * time.Minute, 4 * time.Second, 5 * time.Second},
		[]time.Duration{w.AcceptDeadline, w.DeliveryTimeout, w.OrphanAfter, w.CheckInterval, w.DrainLimit})
	require.Equal(t, 8, c.applyPool().MaxConns, "one for each lane, and two")
	require.Equal(t, 20*time.Second, c.applyPool().StatementTimeout)
	require.Equal(t, 20*time.Second, c.store().TxTimeout)
}
