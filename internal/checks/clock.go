package checks

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// How far the clock of a process may be from the clock of a store (rule T11).
const (
	MaxSkew  = 30 * time.Second // a process that is further off does not start, and deletes nothing
	warnSkew = 5 * time.Second
)

// Clock compares the clock of this process with the one of a store (rule T11). A process does not start with a clock
// that is more than MaxSkew off. One whose clock was right and jumps later only warns: to stop all processes at once
// would do more harm than a wrong clock, as long as nothing is deleted by it.
type Clock struct {
	store string
	now   func() time.Time
	read  func(context.Context) (time.Time, error)
	skew  prometheus.Gauge
	held  bool // the clock was within MaxSkew once
}

// NewClock returns the check of now against the clock of a store, which read returns. Errors: metrics registered
// already.
func NewClock(
	reg prometheus.Registerer, store string, now func() time.Time, read func(context.Context) (time.Time, error),
) (*Clock, error) {
	c := &Clock{store: store, now: now, read: read, skew: prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: "tradestore", Name: "clock_skew_seconds", ConstLabels: prometheus.Labels{"store": store},
		Help: "How far the clock of this process is at least ahead of the clock of a store; negative when it is behind.",
	})}
	if err := reg.Register(c.skew); err != nil {
		return nil, fmt.Errorf("cannot register the metrics of the clock: %w", err)
	}
	return c, nil
}

// Check compares the clocks. It must not be called concurrently.
func (c *Clock) Check(ctx context.Context) Check {
	name, expected := "clock against "+c.store, "within "+MaxSkew.String()
	began, before := time.Now(), c.now()
	theirs, err := c.read(ctx)
	if err != nil {
		return CanNotTell("T11", name, expected, fmt.Errorf("cannot read the clock of %s: %w", c.store, err))
	}
	// The store read its clock some time between question and answer: in the middle, give or take half the round trip.
	half := time.Since(began) / 2
	ours := before.Add(half)
	skew := certain(ours.Sub(theirs), half)
	c.skew.Set(skew.Seconds())
	seen := fmt.Sprintf("%s here, %s there", ours.UTC().Format(time.RFC3339), theirs.UTC().Format(time.RFC3339))
	if skew.Abs() > MaxSkew && !c.held {
		return Compare("T11", name, expected, seen, false)
	}
	c.held = true
	return Warn("T11", name, "within "+warnSkew.String(), seen, skew.Abs() <= warnSkew)
}

// certain returns the least skew that the measured one may be, given how much the measurement may be wrong.
func certain(skew, uncertainty time.Duration) time.Duration {
	switch {
	case skew > uncertainty:
		return skew - uncertainty
	case skew < -uncertainty:
		return skew + uncertainty
	}
	return 0
}
