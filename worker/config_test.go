package worker

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

func TestWrongSettingsAreListedTogether(t *testing.T) {
	cfg := Config{Lanes: -1, MaxPollRecords: -1, ApplyPause: -1, MaxRefused: -1, ProjectLimit: -1, RetryMin: time.Minute,
		TransactionLimit: time.Hour, SweepInterval: -1, OrphanLimit: -1, OrphanInterval: -1, OrphanAfter: time.Minute,
		AcceptDeadline: 3 * time.Second, DeliveryTimeout: time.Minute}
	_, err := New(cfg, Deps{Registry: prometheus.NewRegistry()})
	for _, want := range []string{"partitions", "check interval", "drain limit", "--kafka-group: empty", "--lanes: -1",
		"--max-poll-records: -1", "apply pause", "max refused", "project limit", "retry min",
		"--transaction-limit: 1h0m0s is not less than the 1m0s", "sweep interval", "orphan limit", "--orphan-interval: -1",
		"--outcome-retention: 0s", "--dead-letter-retention: 0s",
		"--orphan-after: 1m0s is less than 2m6s, twice the sum of --accept-deadline 3s and --delivery-timeout 1m0s"} {
		require.ErrorContains(t, err, want)
	}
}

func TestDefaultsAreRight(t *testing.T) {
	c := DefaultConfig()
	require.NoError(t, c.Validate())
	c.Partitions, c.CheckInterval, c.DrainLimit = 1, time.Second, time.Second
	c, err := c.complete()
	require.NoError(t, err)
	require.Equal(t, []any{"tradestore-workers", 45 * time.Second, time.Minute},
		[]any{c.Kafka.Group, c.Kafka.SessionTimeout, c.Kafka.RebalanceTimeout})
	require.Equal(t, trade.Retention{Outcomes: 7 * day, DeadLetters: 30 * day}, c.retention())
}
