package worker

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"tradestore/internal/telemetry"
	"tradestore/kafka"
	"tradestore/trade"
)

// Config holds the settings of a worker. A zero value takes the default named at the field.
type Config struct {
	// Kafka names the brokers, the topic and the consumer group. ClientID is the start of the client ids: each lane adds
	// its number. RebalanceTimeout must exceed TransactionLimit (rule A9).
	Kafka      kafka.Config
	Partitions int // that the topic must have (rule T2); required

	Lanes            int           // loops that apply at once, each with its own part of the partitions; default 2
	MaxPollRecords   int           // records in one transaction at most; default 10,000
	ApplyPause       time.Duration // between the starts of two transactions of a lane at least, while few records wait; 0 for none
	TransactionLimit time.Duration // for one apply transaction; default 20 s
	SlowTransaction  time.Duration // after one that took this long the lanes take turns; default 1 s, in which a good store takes more than 50,000 records
	RetryMin         time.Duration // first upper bound of the random wait before a repeat; default 50 ms
	RetryMax         time.Duration // last upper bound; default 5 s
	MaxRefused       int           // records in a row that the store may refuse before the worker stops (rule E8); default 100
	CommitInterval   time.Duration // between two commits of the group offset, which is a lag hint only; default 1 s
	CheckInterval    time.Duration // between two looks at the end of the log; default 30 s
	DrainLimit       time.Duration // for the batch in hand, for the last projection, and for leaving the group, each; default 5 s

	ProjectInterval time.Duration // between two looks at the journal when no commit nudges; default 1 s
	ProjectLimit    int           // outcomes in one step of the projector; default 1,000

	// A request that stays PENDING is closed no earlier than ResolveAfter from when this worker first saw it. No server may
	// still answer 202 then, so it must be at least twice the sum of what servers have for a trade (rule R2).
	OrphanAfter     time.Duration // default 60 s
	AcceptDeadline  time.Duration // of the servers; default 3 s
	DeliveryTimeout time.Duration // of the servers; default 10 s
	OrphanInterval  time.Duration // between two looks for such requests; default 10 s
	OrphanLimit     int           // requests known to be PENDING at once, at most; default 50,000, about 20 MB

	SweepInterval time.Duration   // between two sweeps; default 1 h
	Retention     trade.Retention // default 7 days for outcomes, 30 days for dead letters
}

// Deps are what a worker works with. All but Shown and Tracer are required; their methods may be called concurrently.
type Deps struct {
	Store    TradeStore
	Journal  Journal
	Closer   OrphanCloser
	Requests RequestStore
	// OutcomesAtCommit says that clients read outcomes where Apply commits them, as they do from the request store in
	// PostgreSQL: nothing has to be shown, and the cursors follow the positions.
	OutcomesAtCommit bool
	// Shown is called after clients can read outcomes that they could not read before; it must return at once. May be nil.
	Shown      func()
	Maintainer Maintainer
	Registry   prometheus.Registerer
	Log        zerolog.Logger
	Tracer     *telemetry.Tracer // nil traces nothing
	Now        func() time.Time  // the clock of ages and of retention; it never decides about a trade
}

const day = 24 * time.Hour

func (c Config) withDefaults() Config {
	c.Lanes = cmp.Or(c.Lanes, 2)
	c.MaxPollRecords = cmp.Or(c.MaxPollRecords, 10_000)
	c.TransactionLimit = cmp.Or(c.TransactionLimit, 20*time.Second)
	c.SlowTransaction = cmp.Or(c.SlowTransaction, time.Second)
	c.RetryMin = cmp.Or(c.RetryMin, 50*time.Millisecond)
	c.RetryMax = cmp.Or(c.RetryMax, 5*time.Second)
	c.MaxRefused = cmp.Or(c.MaxRefused, 100)
	c.CommitInterval = cmp.Or(c.CommitInterval, time.Second)
	c.CheckInterval = cmp.Or(c.CheckInterval, 30*time.Second)
	c.DrainLimit = cmp.Or(c.DrainLimit, 5*time.Second)
	c.ProjectInterval = cmp.Or(c.ProjectInterval, time.Second)
	c.ProjectLimit = cmp.Or(c.ProjectLimit, 1000)
	c.OrphanAfter = cmp.Or(c.OrphanAfter, time.Minute)
	c.AcceptDeadline = cmp.Or(c.AcceptDeadline, 3*time.Second)
	c.DeliveryTimeout = cmp.Or(c.DeliveryTimeout, 10*time.Second)
	c.OrphanInterval = cmp.Or(c.OrphanInterval, 10*time.Second)
	c.OrphanLimit = cmp.Or(c.OrphanLimit, 50_000)
	c.SweepInterval = cmp.Or(c.SweepInterval, time.Hour)
	c.Retention.Outcomes = cmp.Or(c.Retention.Outcomes, 7*day)
	c.Retention.DeadLetters = cmp.Or(c.Retention.DeadLetters, 30*day)
	c.Kafka.RebalanceTimeout = cmp.Or(c.Kafka.RebalanceTimeout, 60*time.Second)
	return c
}

// validate returns all mistakes at once.
func (c Config) validate() error {
	var wrong []error
	must := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Errorf(format, args...))
		}
	}
	must(c.Partitions > 0, "partitions must be at least 1, not %d", c.Partitions)
	must(c.Lanes > 0, "lanes must be at least 1, not %d", c.Lanes)
	must(c.MaxPollRecords > 0, "max poll records must be at least 1, not %d", c.MaxPollRecords)
	must(c.MaxRefused > 0, "max refused must be at least 1, not %d", c.MaxRefused)
	must(c.ProjectLimit > 0, "project limit must be at least 1, not %d", c.ProjectLimit)
	must(c.ApplyPause >= 0, "apply pause must not be negative, not %v", c.ApplyPause)
	must(c.RetryMin > 0 && c.RetryMin <= c.RetryMax, "retry min %v must be positive and at most retry max %v", c.RetryMin, c.RetryMax)
	must(c.TransactionLimit > 0 && c.TransactionLimit < c.Kafka.RebalanceTimeout,
		"transaction limit %v must be positive and less than the rebalance timeout %v", c.TransactionLimit, c.Kafka.RebalanceTimeout)
	must(c.OrphanLimit > 0, "orphan limit must be at least 1, not %d", c.OrphanLimit)
	if err := CheckOrphanAfter(c.OrphanAfter, c.AcceptDeadline, c.DeliveryTimeout); err != nil {
		wrong = append(wrong, err)
	}
	for name, d := range map[string]time.Duration{
		"commit interval": c.CommitInterval, "check interval": c.CheckInterval, "drain limit": c.DrainLimit,
		"slow transaction": c.SlowTransaction,
		"project interval": c.ProjectInterval, "orphan interval": c.OrphanInterval, "sweep interval": c.SweepInterval,
		"retention of outcomes": c.Retention.Outcomes, "retention of dead letters": c.Retention.DeadLetters,
	} {
		must(d > 0, "%s must be positive, not %v", name, d)
	}
	return errors.Join(wrong...)
}

// CheckResolveAfter returns an error that names the flags if requests could be closed while a server may still answer 202
// to them (rule R2).
func CheckOrphanAfter(after, acceptDeadline, deliveryTimeout time.Duration) error {
	if least := 2 * (acceptDeadline + deliveryTimeout); after < least {
		return fmt.Errorf("orphan-after: %v is less than %v, twice the sum of --accept-deadline %v and --delivery-timeout %v: a server might still answer 202",
			after, least, acceptDeadline, deliveryTimeout)
	}
	return nil
}
