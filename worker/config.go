package worker

import (
	"cmp"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"tradestore/internal/settings"
	"tradestore/internal/telemetry"
	"tradestore/kafka"
	"tradestore/trade"
)

// Config holds the settings of a worker. A field with a name tag is a flag of the commands worker and dev, with its
// default in the tag. Start from DefaultConfig: a flag that is left at zero stays zero.
type Config struct {
	// These belong to settings that several commands share. They are required.
	Kafka           kafka.Config  `kong:"-"` // brokers, topic, client id (each lane adds its number)
	Partitions      int           `kong:"-"` // that the topic must have (rule T2)
	CheckInterval   time.Duration `kong:"-"` // between two looks at the end of the log
	OrphanAfter     time.Duration `kong:"-"` // from the first sight of a PENDING request to its close (rule R2)
	AcceptDeadline  time.Duration `kong:"-"` // of the servers
	DeliveryTimeout time.Duration `kong:"-"` // of the servers
	DrainLimit      time.Duration `kong:"-"` // for the batch in hand, the last projection, and leaving the group, each

	Group               string        `name:"kafka-group" group:"stores" default:"tradestore-workers" help:"Consumer group of the workers. The workers of one group share the partitions."`
	SessionTimeout      time.Duration `name:"kafka-session-timeout" group:"tuning" default:"45s" help:"Time without a heartbeat after which the group gives the partitions of a worker to others."`
	Lanes               int           `name:"lanes" group:"tuning" default:"2" help:"Number of loops that apply trades at the same time. Each one has its own share of the partitions and its own PostgreSQL connection."`
	MaxPollRecords      int           `name:"max-poll-records" group:"tuning" default:"10000" help:"Largest number of records in one transaction."`
	TransactionLimit    time.Duration `name:"transaction-limit" group:"tuning" default:"20s" help:"Time limit for one transaction. It must be shorter than the 60s that workers have to give up partitions."`
	OrphanInterval      time.Duration `name:"orphan-interval" group:"tuning" default:"10s" help:"Time between two searches for requests that stay PENDING."`
	OutcomeFlags        `embed:""`
	DeadLetterRetention time.Duration `name:"dead-letter-retention" group:"tuning" default:"720h" help:"How long records that could not be stored are kept for inspection."`

	// Limits that no deployment has to change. Zero takes the constant of the same name below.
	RebalanceTimeout time.Duration `kong:"-"` // for giving up partitions
	ApplyPause       time.Duration `kong:"-"` // between the starts of two transactions of a lane, while few records wait
	SlowTransaction  time.Duration `kong:"-"` // after a transaction that took this long, the lanes take turns
	RetryMin         time.Duration `kong:"-"` // first upper bound of the random wait before a repeat
	RetryMax         time.Duration `kong:"-"` // last upper bound
	MaxRefused       int           `kong:"-"` // records in a row that the store may refuse (rule E8)
	CommitInterval   time.Duration `kong:"-"` // between two commits of the group's offset
	ProjectInterval  time.Duration `kong:"-"` // between two reads of the journal without a commit signal
	ProjectLimit     int           `kong:"-"` // outcomes in one step of the projector
	OrphanLimit      int           `kong:"-"` // requests known to be PENDING at the same time
	SweepInterval    time.Duration `kong:"-"` // between two sweeps
	SummaryInterval  time.Duration `kong:"-"` // between two looks for what needs a summary
}

// OutcomeFlags is shared with the command check, which compares it with the retention of the topic.
type OutcomeFlags struct {
	OutcomeRetention time.Duration `name:"outcome-retention" group:"tuning" default:"168h" help:"How long workers keep outcomes for clients. It must be longer than the topic keeps records, or a late duplicate counts as new."`
}

const (
	// rebalanceTimeout leaves a worker time to finish a transaction before others take its partitions (rule A9). It
	// bounds --transaction-limit.
	rebalanceTimeout = 60 * time.Second
	// applyPause makes fewer and larger transactions, because each commit syncs the disk that the servers write to also.
	applyPause = 20 * time.Millisecond
	// slowTransaction is a time in which a healthy store takes more than 50,000 records.
	slowTransaction = time.Second
	// minPause and maxPause keep workers from asking a store that starts again all at once.
	minPause = 50 * time.Millisecond
	maxPause = 5 * time.Second
	// maxRefused refused records in a row mean that the schema is wrong, not the data.
	maxRefused = 100
	// commitInterval can be short: the group's offset only shows the lag, and the position is in PostgreSQL.
	commitInterval = time.Second
	// projectInterval bounds how late an outcome shows when a commit signal is lost.
	projectInterval = time.Second
	// projectLimit keeps a step of the projector short.
	projectLimit = 1000
	// orphanLimit requests take about 20 MB.
	orphanLimit = 50_000
	// sweepInterval is short against the day that a sweep deletes as a whole.
	sweepInterval = time.Hour
	// summaryInterval bounds what a history has to read without a summary.
	summaryInterval = 5 * time.Second
)

// DefaultConfig returns the defaults of the flags and the constants. The fields that Config calls required are left to
// set.
func DefaultConfig() Config { return settings.Defaults[Config]().withConstants() }

// withConstants sets every limit that is zero.
func (c Config) withConstants() Config {
	c.RebalanceTimeout = cmp.Or(c.RebalanceTimeout, rebalanceTimeout)
	c.ApplyPause = cmp.Or(c.ApplyPause, applyPause)
	c.SlowTransaction = cmp.Or(c.SlowTransaction, slowTransaction)
	c.RetryMin = cmp.Or(c.RetryMin, minPause)
	c.RetryMax = cmp.Or(c.RetryMax, maxPause)
	c.MaxRefused = cmp.Or(c.MaxRefused, maxRefused)
	c.CommitInterval = cmp.Or(c.CommitInterval, commitInterval)
	c.ProjectInterval = cmp.Or(c.ProjectInterval, projectInterval)
	c.ProjectLimit = cmp.Or(c.ProjectLimit, projectLimit)
	c.OrphanLimit = cmp.Or(c.OrphanLimit, orphanLimit)
	c.SweepInterval = cmp.Or(c.SweepInterval, sweepInterval)
	c.SummaryInterval = cmp.Or(c.SummaryInterval, summaryInterval)
	return c
}

const (
	day         = 24 * time.Hour
	longestKept = 10 * 365 * day
)

// Validate lists every mistake in the flags, one per line, each with its flag; nil if there is none.
func (c Config) Validate() error {
	c = c.withConstants()
	var m settings.Mistakes
	if c.Group == "" {
		m.Addf("--kafka-group: empty")
	}
	settings.Between(&m, "--kafka-session-timeout", c.SessionTimeout, time.Second, time.Hour)
	settings.Between(&m, "--lanes", c.Lanes, 1, 64)
	settings.Between(&m, "--max-poll-records", c.MaxPollRecords, 1, 100_000)
	settings.Between(&m, "--transaction-limit", c.TransactionLimit, 100*time.Millisecond, time.Hour)
	if c.TransactionLimit >= c.RebalanceTimeout {
		m.Addf("--transaction-limit: %v is not less than the %v that workers have to give up partitions: "+
			"another worker would wait for the locks of this one", c.TransactionLimit, c.RebalanceTimeout)
	}
	settings.Between(&m, "--orphan-interval", c.OrphanInterval, time.Millisecond, time.Hour)
	m.Add(c.OutcomeFlags.Validate())
	settings.Between(&m, "--dead-letter-retention", c.DeadLetterRetention, day, longestKept)
	return m.Err()
}

// Validate lists every mistake in the flags, one per line, each with its flag; nil if there is none.
func (f OutcomeFlags) Validate() error {
	var m settings.Mistakes
	settings.Between(&m, "--outcome-retention", f.OutcomeRetention, day, longestKept)
	return m.Err()
}

// complete returns c with every field set, as New uses it. Errors: every mistake in c, one per line.
func (c Config) complete() (Config, error) {
	c = c.withConstants()
	c.Kafka.Group, c.Kafka.SessionTimeout, c.Kafka.RebalanceTimeout = c.Group, c.SessionTimeout, c.RebalanceTimeout
	var m settings.Mistakes
	for _, limit := range []struct {
		name  string
		value int64
	}{
		{"partitions", int64(c.Partitions)},
		{"check interval", int64(c.CheckInterval)},
		{"drain limit", int64(c.DrainLimit)},
		{"apply pause", int64(c.ApplyPause)},
		{"slow transaction", int64(c.SlowTransaction)},
		{"retry min", int64(c.RetryMin)},
		{"max refused", int64(c.MaxRefused)},
		{"commit interval", int64(c.CommitInterval)},
		{"project interval", int64(c.ProjectInterval)},
		{"project limit", int64(c.ProjectLimit)},
		{"orphan limit", int64(c.OrphanLimit)},
		{"sweep interval", int64(c.SweepInterval)},
		{"summary interval", int64(c.SummaryInterval)},
	} {
		if limit.value <= 0 {
			m.Addf("%s: %d is not positive", limit.name, limit.value)
		}
	}
	if c.RetryMin > c.RetryMax {
		m.Addf("retry min: %v is more than retry max %v", c.RetryMin, c.RetryMax)
	}
	m.Add(CheckOrphanAfter(c.OrphanAfter, c.AcceptDeadline, c.DeliveryTimeout))
	m.Add(c.Validate())
	return c, m.Err()
}

func (c Config) retention() trade.Retention {
	return trade.Retention{Outcomes: c.OutcomeRetention, DeadLetters: c.DeadLetterRetention}
}

// CheckOrphanAfter returns an error that names the flags if requests could be closed while a server may still answer
// 202 to them (rule R2).
func CheckOrphanAfter(after, acceptDeadline, deliveryTimeout time.Duration) error {
	if least := 2 * (acceptDeadline + deliveryTimeout); after < least {
		return fmt.Errorf("--orphan-after: %v is less than %v, twice the sum of --accept-deadline %v and "+
			"--delivery-timeout %v: a server might still answer 202", after, least, acceptDeadline, deliveryTimeout)
	}
	return nil
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
