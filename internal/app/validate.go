package app

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"tradestore/internal/telemetry"
	"tradestore/worker"
)

// mistakes collects what is wrong with a configuration, so that one start shows all of it.
type mistakes []error

func (m *mistakes) addf(format string, args ...any) { *m = append(*m, fmt.Errorf(format, args...)) }

func (m *mistakes) add(err error) { *m = append(*m, err) }

// further adds what another package says of its own settings, whose names are those of the flags. A flag that is known
// to be wrong is not named again.
func (m *mistakes) further(err error) {
	if err == nil {
		return
	}
	known := errors.Join(*m...)
	for line := range strings.SplitSeq(err.Error(), "\n") {
		flag, _, _ := strings.Cut("--"+line, " ")
		if known == nil || !strings.Contains("\n"+known.Error(), "\n"+flag) {
			m.addf("--%s", line)
		}
	}
}

// all returns the mistakes, one per line, or nil.
func (m *mistakes) all() error { return errors.Join(*m...) }

// between demands lowest <= value <= highest of the flag.
func between[T cmp.Ordered](m *mistakes, flag string, value, lowest, highest T) {
	if value < lowest || value > highest {
		m.addf("%s: %v is not between %v and %v", flag, value, lowest, highest)
	}
}

func (m *mistakes) oneOf(flag, value string, list ...string) {
	for _, item := range list {
		if value == item {
			return
		}
	}
	m.addf("%s: %q is not one of %s", flag, value, strings.Join(list, ", "))
}

// address demands host:port. A listener may leave the host out (every interface) and take port 0 (any free one).
func (m *mistakes) address(flag, value string, listener bool) {
	host, port, err := net.SplitHostPort(value)
	number, bad := strconv.ParseUint(port, 10, 16)
	if err != nil || bad != nil || !listener && (host == "" || number == 0) {
		m.addf("%s: %q is not host:port, like 127.0.0.1:8000", flag, value)
	}
}

func (m *mistakes) kafka(f KafkaFlags) {
	if len(f.Brokers) == 0 {
		m.addf("--kafka-brokers: no broker given")
	}
	for _, broker := range f.Brokers {
		m.address("--kafka-brokers", broker, false)
	}
	if !topicName(f.Topic) {
		m.addf("--topic: %q is not a topic name: 1 to 249 of A-Z a-z 0-9 . _ -", f.Topic)
	}
	between(m, "--partitions", f.Partitions, 1, maxPartitions)
}

// maxPartitions bounds one poll of a worker that owns them all; brokers get slow long before.
const maxPartitions = 1000

const topicLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

func topicName(s string) bool {
	if s == "." || s == ".." || len(s) < 1 || len(s) > 249 {
		return false
	}
	for _, r := range s {
		if !strings.ContainsRune(topicLetters, r) {
			return false
		}
	}
	return true
}

// database never quotes the URL: it may hold a password in a place that can't be found in a text that does not parse.
func (m *mistakes) database(f DatabaseFlags) {
	if f.URL == "" {
		m.addf("--database-url: required; set TRADESTORE_DATABASE_URL, like postgres://user:password@127.0.0.1:5432/tradestore")
		return
	}
	u, err := url.Parse(f.URL)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Host == "" {
		m.addf("--database-url: not a URL like postgres://user:password@127.0.0.1:5432/tradestore; special characters in a password are written as %%XX")
	}
}

func (m *mistakes) requestStore(f RequestStoreFlags) {
	m.oneOf("--request-store", f.Kind, onPostgres, onDynamoDB)
	if f.Kind == onDynamoDB {
		between(m, "--dynamodb-conns", f.Conns, 1, maxConns)
		if err := f.config().Validate(); err != nil {
			m.add(err)
		}
	}
}

func (m *mistakes) profile(f ProfileFlags) { m.oneOf("--profile", f.Profile, "production", "single") }

func (m *mistakes) check(f CheckFlags) {
	between(m, "--check-interval", f.Interval, time.Second, time.Hour)
}

func (m *mistakes) promise(f PromiseFlags) {
	between(m, "--accept-deadline", f.AcceptDeadline, time.Millisecond, time.Hour)
	between(m, "--delivery-timeout", f.DeliveryTimeout, time.Second, time.Hour) // the least that the Kafka client takes
	between(m, "--orphan-after", f.OrphanAfter, time.Millisecond, day)
	m.further(worker.CheckOrphanAfter(f.OrphanAfter, f.AcceptDeadline, f.DeliveryTimeout))
}

func (m *mistakes) drain(f DrainFlags) {
	between(m, "--drain-timeout", f.Timeout, time.Second, time.Hour)
}

func (m *mistakes) fault(f FaultFlags) {
	between(m, "--linger-after-fault", f.ExitDelay, 0, time.Hour)
}

func (m *mistakes) log(f LogFlags) {
	if err := telemetry.CheckLog(f.Level, f.Format); err != nil {
		m.add(err)
	}
}

// tracing has its settings in variables that all programs share, and no flags.
func (m *mistakes) tracing() {
	if err := telemetry.CheckTracing(); err != nil {
		m.add(err)
	}
}

// Validate lists every mistake in the settings, one per line, each with its flag; nil if there is none.
func (c ServerConfig) Validate() error {
	var m mistakes
	m.address("--listen", c.Listen, true)
	m.kafka(c.Kafka)
	m.database(c.Database)
	m.requestStore(c.RequestStore)
	m.profile(c.Profile)
	m.log(c.Log)
	m.tracing()
	m.promise(c.Promise)
	c.Tuning.check(&m)
	m.check(c.Check)
	m.drain(c.Drain)
	m.fault(c.Fault)
	if c.Drain.Timeout <= c.Tuning.DrainDelay+c.Tuning.ReadTimeout {
		m.addf("--drain-timeout: %v is not more than --drain-delay %v and --read-timeout %v together, which is how long a connection that sends nothing is waited for",
			c.Drain.Timeout, c.Tuning.DrainDelay, c.Tuning.ReadTimeout)
	}
	m.further(c.server().Validate())
	return m.all()
}

func (t ServerTuning) check(m *mistakes) {
	for _, size := range []struct {
		flag           string
		value, highest int
	}{
		{"--flushes", t.Flushes, 256},
		{"--idempotency-attempts", t.KeyAttempts, 256},
		{"--max-batch", t.MaxBatch, 100_000},
		{"--bulk-items", t.BulkItems, 100_000},
		{"--bulk-bytes", t.BulkBytes, 64 << 20},
		{"--queue-items", t.QueueItems, 10_000_000},
		{"--queue-bytes", t.QueueBytes, 64 << 30},
		{"--request-conns", t.RequestConns, maxConns},
		{"--read-conns", t.ReadConns, maxConns},
		{"--max-streams", t.MaxStreams, 1_000_000},
		{"--max-waiters", t.MaxWaiters, 1_000_000},
		{"--max-body-bytes", t.MaxBodyBytes, maxBody},
		{"--max-header-bytes", t.MaxHeaderBytes, 1 << 20},
		{"--max-conns", t.MaxConns, 1_000_000},
		{"--max-conns-per-addr", t.MaxConnsPerAddr, 1_000_000},
	} {
		between(m, size.flag, size.value, 1, size.highest)
	}
	for _, limit := range []struct {
		flag            string
		value, shortest time.Duration
	}{
		{"--open-timeout", t.OpenTimeout, time.Millisecond},
		{"--lookup-timeout", t.LookupTimeout, time.Millisecond},
		{"--store-timeout", t.StoreTimeout, time.Millisecond},
		{"--kafka-linger", t.KafkaLinger, 0},
		{"--max-wait", t.MaxWait, time.Second},
		{"--read-timeout", t.ReadTimeout, time.Millisecond},
		{"--write-timeout", t.WriteTimeout, time.Millisecond},
		{"--idle-timeout", t.IdleTimeout, time.Millisecond},
		{"--drain-delay", t.DrainDelay, 0},
	} {
		between(m, limit.flag, limit.value, limit.shortest, time.Hour)
	}
	m.oneOf("--kafka-compression", t.Compression, "none", "lz4", "snappy", "zstd", "gzip")
}

// maxBody keeps the largest trade below the largest record of a broker that is left at its defaults, 1 MiB.
const maxBody = 512 << 10

// maxConns bounds one pool: PostgreSQL forks a process for each connection, and allows 100 unless told otherwise.
const maxConns = 1000

// Validate lists every mistake in the settings, one per line, each with its flag; nil if there is none.
func (c WorkerConfig) Validate() error {
	var m mistakes
	m.address("--listen", c.Listen, true)
	m.kafka(c.Kafka)
	m.database(c.Database)
	m.requestStore(c.RequestStore)
	m.profile(c.Profile)
	m.log(c.Log)
	m.tracing()
	m.promise(c.Promise)
	c.Tuning.check(&m)
	m.check(c.Check)
	m.drain(c.Drain)
	m.fault(c.Fault)
	return m.all()
}

func (t WorkerTuning) check(m *mistakes) {
	if t.Group == "" {
		m.addf("--kafka-group: empty")
	}
	between(m, "--lanes", t.Lanes, 1, 64)
	between(m, "--apply-conns", t.ApplyConns, 0, maxConns)
	between(m, "--maintainer-conns", t.MaintainerConns, 1, maxConns)
	between(m, "--max-poll-records", t.MaxPollRecords, 1, 100_000)
	between(m, "--max-refused", t.MaxRefused, 1, 1_000_000)
	for _, limit := range []struct {
		flag                     string
		value, shortest, longest time.Duration
	}{
		{"--kafka-session-timeout", t.SessionTimeout, time.Second, time.Hour},
		{"--kafka-rebalance-timeout", t.RebalanceTimeout, time.Second, time.Hour},
		{"--apply-pause", t.ApplyPause, 0, time.Second},
		{"--transaction-limit", t.TransactionLimit, 100 * time.Millisecond, time.Hour},
		{"--project-interval", t.ProjectInterval, time.Millisecond, time.Hour},
		{"--orphan-interval", t.OrphanInterval, time.Millisecond, time.Hour},
		{"--sweep-interval", t.SweepInterval, time.Second, day},
		{"--outcome-retention", t.OutcomeRetention, day, 10 * 365 * day},
		{"--dead-letter-retention", t.DeadLetterRetention, day, 10 * 365 * day},
	} {
		between(m, limit.flag, limit.value, limit.shortest, limit.longest)
	}
	if t.TransactionLimit >= t.RebalanceTimeout {
		m.addf("--transaction-limit: %v is not less than --kafka-rebalance-timeout %v, so another worker would wait for its locks", t.TransactionLimit, t.RebalanceTimeout)
	}
}

const day = 24 * time.Hour

// Validate lists every mistake in the settings, one per line, each with its flag; nil if there is none.
func (c MigrateConfig) Validate() error {
	var m mistakes
	m.kafka(c.Kafka)
	m.database(c.Database)
	m.requestStore(c.RequestStore)
	m.profile(c.Profile)
	m.log(c.Log)
	if c.TopicRetention != 0 {
		between(&m, "--topic-retention", c.TopicRetention, time.Hour, 365*day)
	}
	between(&m, "--wait", c.Wait, 100*time.Millisecond, time.Hour)
	if c.NewGeneration {
		between(&m, "--accept-deadline", c.AcceptDeadline, time.Millisecond, time.Hour)
	}
	return m.all()
}

// Validate lists every mistake in the settings, one per line, each with its flag; nil if there is none.
func (c CheckConfig) Validate() error {
	var m mistakes
	m.kafka(c.Kafka)
	m.database(c.Database)
	m.requestStore(c.RequestStore)
	m.profile(c.Profile)
	between(&m, "--outcome-retention", c.OutcomeRetention, day, 10*365*day)
	between(&m, "--timeout", c.Timeout, 100*time.Millisecond, time.Hour)
	return m.all()
}
