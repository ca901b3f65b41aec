package checks

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

// A clock that is far off fails a start and only warns later; the time that the answer takes is no skew (rule T11).
func TestClock(t *testing.T) {
	t.Parallel()
	const month = 30 * 24 * time.Hour
	start := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	f := func(before, ahead, trip time.Duration, want Status, skew time.Duration) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			began, offset := time.Now(), before
			theirs := func() time.Time { return start.Add(time.Since(began)) }
			c, err := NewClock(prometheus.NewRegistry(), "PostgreSQL",
				func() time.Time { return theirs().Add(offset) },
				func(context.Context) (time.Time, error) {
					time.Sleep(trip)
					return theirs(), nil // at the end: half the trip later than the best guess
				})
			require.NoError(t, err)
			c.Check(t.Context())
			offset = ahead
			got := c.Check(t.Context())
			require.Equal(t, want, got.Status, got)
			require.InDelta(t, skew.Seconds(), testutil.ToFloat64(c.skew), 0.001)
		})
	}
	f(0, 0, 0, OK, 0)
	f(0, 5*time.Second, 0, OK, 5*time.Second)
	f(0, 6*time.Second, 0, Warning, 6*time.Second)
	f(0, -6*time.Second, 0, Warning, -6*time.Second)
	f(month, month, 0, Failed, month)
	f(-month, -month, 0, Failed, -month)
	f(31*time.Second, 31*time.Second, 0, Failed, 31*time.Second)
	f(31*time.Second, 29*time.Second, 0, Warning, 29*time.Second)
	f(29*time.Second, month, 0, Warning, month)
	f(0, month, 0, Warning, month)
	f(0, 0, 40*time.Second, OK, 0)
	f(0, 6*time.Second, 4*time.Second, OK, 2*time.Second) // 2 s of the 6 may be the way there, 2 the way back
	f(month, 0, 0, OK, 0)
}

func TestAClockThatCanNotBeRead(t *testing.T) {
	t.Parallel()
	c, err := NewClock(prometheus.NewRegistry(), "DynamoDB", time.Now,
		func(context.Context) (time.Time, error) { return time.Time{}, errors.New("down") })
	require.NoError(t, err)
	got := c.Check(t.Context())
	require.Equal(t, CanNotTell("T11", "clock against DynamoDB", "within 30s",
		errors.New("cannot read the clock of DynamoDB: down")), got)
}
