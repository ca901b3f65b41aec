package worker

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

func TestWrongSettingsAreListedTogether(t *testing.T) {
	cfg := Config{Lanes: -1, MaxPollRecords: -1, ApplyPause: -1, MaxRefused: -1, ProjectLimit: -1, RetryMin: time.Minute, TransactionLimit: time.Hour, SweepInterval: -1,
		OrphanLimit: -1, OrphanInterval: -1, DeliveryTimeout: time.Minute}
	_, err := New(cfg, Deps{Registry: prometheus.NewRegistry()})
	for _, want := range []string{"partitions", "lanes", "max poll records", "apply pause", "max refused", "project limit", "retry min", "transaction limit 1h0m0s", "sweep interval",
		"orphan limit", "orphan interval", "orphan-after: 1m0s is less than 2m6s, twice the sum of --accept-deadline 3s and --delivery-timeout 1m0s"} {
		require.ErrorContains(t, err, want)
	}
}

func TestDefaultsAreRight(t *testing.T) {
	require.NoError(t, Config{Partitions: 1}.withDefaults().validate())
}
