package server

import (
	"cmp"
	"time"

	"tradestore/internal/settings"
)

// Config holds the settings of the server. A field with a name tag is a flag of the commands server and dev, with its
// default in the tag. Start from DefaultConfig: a flag that is left at zero stays zero.
type Config struct {
	// These three belong to settings that several commands share. They are required.
	Topic          string        `kong:"-"` // topic of the accepted trades
	Partitions     int           `kong:"-"` // of the topic: it fixes which partition a trade belongs to
	AcceptDeadline time.Duration `kong:"-"` // from arrival to the latest moment of a 202

	// Accepting.
	Flushes    int `name:"flushes" group:"tuning" default:"2" help:"Largest number of batches of trades that are written to the request store at the same time. Each one takes its own share of the partitions, so more than --partitions have no effect. For the request store in PostgreSQL, more than --request-conns have no effect."`
	MaxBatch   int `name:"max-batch" group:"tuning" default:"512" help:"Largest number of trades in one batch."`
	QueueItems int `name:"queue-items" group:"tuning" default:"8192" help:"Largest number of trades between arrival and answer. The server answers any further trade with 503 at once."`
	QueueBytes int `name:"queue-bytes" group:"tuning" default:"67108864" help:"Largest size of the trades between arrival and answer, together, in bytes. Bulk requests have the same limit once more for their bodies."`

	// HTTP. Every wait and every size has a limit, because any client can connect.
	MaxBodyBytes    int           `name:"max-body-bytes" group:"http" default:"16384" help:"Largest body of a request, in bytes. A larger one is answered 413."`
	ReadTimeout     time.Duration `name:"read-timeout" group:"http" default:"5s" help:"Time limit for reading one request, from its first byte."`
	IdleTimeout     time.Duration `name:"idle-timeout" group:"http" default:"75s" help:"How long the server keeps a connection without a request. It must be longer than the idle timeout of the load balancer, or the balancer sends requests on connections that the server has just closed: AWS ALB and nginx use 60s."`
	MaxConns        int           `name:"max-conns" group:"http" default:"8192" help:"Largest number of open connections."`
	MaxConnsPerAddr int           `name:"max-conns-per-addr" group:"http" default:"2048" help:"Largest number of open connections from one address (IPv6: from one /64 network)."`
	DrainDelay      time.Duration `name:"drain-delay" group:"tuning" default:"0s" help:"How long a drain goes on serving while it reports not ready, so that a load balancer stops sending requests first."`

	// What package app builds for the server: its connections and its Kafka producer.
	RequestConns int    `name:"request-conns" group:"tuning" default:"8" help:"Largest number of PostgreSQL connections for accepting trades and for reading the status of requests."`
	ReadConns    int    `name:"read-conns" group:"tuning" default:"8" help:"Largest number of PostgreSQL connections for reading trades and for exports. Version checks, readiness and reads of the past have connections of their own."`
	Compression  string `name:"kafka-compression" group:"tuning" default:"none" help:"Compression of record batches: none, lz4, snappy, zstd or gzip."`

	// Limits that no deployment has to change. Zero takes the constant of the same name below.
	OpenTimeout         time.Duration `kong:"-"` // of writing PENDING; zero takes two thirds of AcceptDeadline
	LookupTimeout       time.Duration `kong:"-"` // of the version check of a batch
	IdempotencyAttempts int           `kong:"-"` // of one idempotency key
	BulkItems           int           `kong:"-"` // trades in one bulk request
	BulkBytes           int           `kong:"-"` // of its body
	StoreTimeout        time.Duration `kong:"-"` // of one read from a store
	MaxExports          int           `kong:"-"` // at the same time
	MaxPastReads        int           `kong:"-"` // of histories and as_of, at the same time
	PastWait            time.Duration `kong:"-"` // of such a read for its turn
	ExportPace          time.Duration `kong:"-"` // for a page of an export, on average
	ExportSlack         time.Duration `kong:"-"` // how far a client may be behind that
	ProbeTimeout        time.Duration `kong:"-"` // of one health probe
	ProbeMaxAge         time.Duration `kong:"-"` // of the answer of a probe
	MaxWait             time.Duration `kong:"-"` // of one call for an outcome, in whole seconds
	MaxStreams          int           `kong:"-"` // of events, open at the same time
	MaxWaiters          int           `kong:"-"` // calls that wait at the same time
	MaxHeaderBytes      int           `kong:"-"` // of a request, with its first line
	WriteTimeout        time.Duration `kong:"-"` // of a whole answer
	evictIdle           time.Duration // the least time that a connection is idle before it is closed to make room
	heartbeat           time.Duration // between two comments on a stream without events
}

const (
	// lookupTimeout bounds the version check. The check only saves work: after this time the batch goes on without it, and
	// the worker decides alone. So it must cost little of the accept deadline.
	lookupTimeout = 100 * time.Millisecond
	// idempotencyAttempts bounds the tries of one key that ended NOT_DELIVERED, because each one is a row.
	idempotencyAttempts = 16
	// bulkItems trades fill two batches, and their answer stays small.
	bulkItems = 1000
	// bulkBytes holds bulkItems trades of usual size. A larger body is for another call.
	bulkBytes = 1 << 20
	// storeTimeout bounds one read, so that a slow store becomes a 503 before clients give up.
	storeTimeout = 2 * time.Second
	// MaxPastReads is how many reads of the past run at once: histories, and trades as of an instant. Each may keep
	// PostgreSQL busy for a second. Their pool has as many connections, so that whose turn it is has a connection.
	MaxPastReads = 4
	// pastWait is longer than most reads of the past take.
	pastWait = 500 * time.Millisecond
	// maxExports leaves most of the read connections to the other reads.
	maxExports = 2
	// exportPace is 500 trades a second. An export may take as long as it needs, but a client that takes fewer holds a
	// place that others want.
	exportPace = 2 * time.Second
	// exportSlack bounds the time without a byte taken, and a pause of a client that is fast otherwise.
	exportSlack = 10 * time.Second
	// evictIdle spares clients that are between two requests.
	evictIdle = time.Second
	// probeTimeout keeps an answer about health inside the timeout of usual load balancers.
	probeTimeout = time.Second
	// probeMaxAge bounds how often clients can make the server ask its stores.
	probeMaxAge = time.Second
	// maxWait stays below the 60 s after which usual load balancers cut a call without an answer.
	maxWait = 30 * time.Second
	// maxStreams bounds the memory of streams: each one takes a connection and about 40 KiB.
	maxStreams = 1024
	// maxWaiters bounds the memory of waiting calls: each one takes a connection and about 20 KiB.
	maxWaiters = 4096
	// maxHeaderBytes is what usual proxies allow. Each connection holds a buffer of this size.
	maxHeaderBytes = 8 << 10
	// writeTimeout frees the memory of an answer that the client does not read.
	writeTimeout = 5 * time.Second
	// heartbeatInterval keeps proxies from closing a stream without events, and finds clients that have left.
	heartbeatInterval = 15 * time.Second
)

// sampleBody is the least room that a trade needs. A smaller limit would refuse every trade.
const sampleBody = 256

// maxBody keeps the largest trade below the largest record of a broker with default settings, 1 MiB.
const maxBody = 512 << 10

// maxPoolConns bounds one pool: PostgreSQL starts a process for each connection, and allows 100 by default.
const maxPoolConns = 1000

// DefaultConfig returns the defaults of the flags and the constants. Topic, partitions and accept deadline are left to
// set.
func DefaultConfig() Config { return settings.Defaults[Config]().withConstants() }

// withConstants sets every limit that is zero.
func (c Config) withConstants() Config {
	// A batch has two thirds of the deadline to become PENDING; the record needs the rest to reach Kafka.
	c.OpenTimeout = cmp.Or(c.OpenTimeout, c.AcceptDeadline/3*2)
	c.LookupTimeout = cmp.Or(c.LookupTimeout, lookupTimeout)
	c.IdempotencyAttempts = cmp.Or(c.IdempotencyAttempts, idempotencyAttempts)
	c.BulkItems = cmp.Or(c.BulkItems, bulkItems)
	c.BulkBytes = cmp.Or(c.BulkBytes, bulkBytes)
	c.StoreTimeout = cmp.Or(c.StoreTimeout, storeTimeout)
	c.MaxExports = cmp.Or(c.MaxExports, maxExports)
	c.MaxPastReads = cmp.Or(c.MaxPastReads, MaxPastReads)
	c.PastWait = cmp.Or(c.PastWait, pastWait)
	c.ExportPace = cmp.Or(c.ExportPace, exportPace)
	c.ExportSlack = cmp.Or(c.ExportSlack, exportSlack)
	c.evictIdle = cmp.Or(c.evictIdle, evictIdle)
	c.ProbeTimeout = cmp.Or(c.ProbeTimeout, probeTimeout)
	c.ProbeMaxAge = cmp.Or(c.ProbeMaxAge, probeMaxAge)
	c.MaxWait = cmp.Or(c.MaxWait, maxWait)
	c.MaxStreams = cmp.Or(c.MaxStreams, maxStreams)
	c.MaxWaiters = cmp.Or(c.MaxWaiters, maxWaiters)
	c.MaxHeaderBytes = cmp.Or(c.MaxHeaderBytes, maxHeaderBytes)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, writeTimeout)
	c.heartbeat = cmp.Or(c.heartbeat, heartbeatInterval)
	return c
}

// Validate lists every mistake in the flags, one per line, each with its flag; nil if there is none.
func (c Config) Validate() error {
	var m settings.Mistakes
	settings.Between(&m, "--flushes", c.Flushes, 1, 256)
	settings.Between(&m, "--max-batch", c.MaxBatch, 1, 100_000)
	settings.Between(&m, "--queue-items", c.QueueItems, 1, 10_000_000)
	// The largest request must find room in an empty queue.
	settings.Between(&m, "--queue-bytes", c.QueueBytes, c.MaxBodyBytes+postOverhead, 64<<30)
	settings.Between(&m, "--max-body-bytes", c.MaxBodyBytes, sampleBody, maxBody)
	settings.Between(&m, "--read-timeout", c.ReadTimeout, time.Millisecond, time.Hour)
	settings.Between(&m, "--idle-timeout", c.IdleTimeout, time.Millisecond, time.Hour)
	settings.Between(&m, "--max-conns", c.MaxConns, 1, 1_000_000)
	settings.Between(&m, "--max-conns-per-addr", c.MaxConnsPerAddr, 1, 1_000_000)
	settings.Between(&m, "--drain-delay", c.DrainDelay, 0, time.Hour)
	settings.Between(&m, "--request-conns", c.RequestConns, 1, maxPoolConns)
	settings.Between(&m, "--read-conns", c.ReadConns, 1, maxPoolConns)
	m.OneOf("--kafka-compression", c.Compression, "none", "lz4", "snappy", "zstd", "gzip")
	return m.Err()
}

// complete returns c with every field set, as New uses it. Errors: every mistake in c, one per line.
func (c Config) complete() (Config, error) {
	c = c.withConstants()
	var m settings.Mistakes
	if c.Topic == "" {
		m.Addf("topic: empty")
	}
	if c.Partitions < 1 {
		m.Addf("partitions: %d is less than 1", c.Partitions)
	}
	if c.OpenTimeout <= 0 || c.OpenTimeout > c.AcceptDeadline {
		m.Addf("open-timeout: %v is not above 0 and at most accept-deadline %v", c.OpenTimeout, c.AcceptDeadline)
	}
	if c.BulkBytes < sampleBody {
		m.Addf("bulk-bytes: %d is less than %d", c.BulkBytes, sampleBody)
	}
	m.Add(c.Validate())
	return c, m.Err()
}
