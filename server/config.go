package server

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// Config holds the settings of the server. A zero value takes the default named at the field.
type Config struct {
	Topic      string // that accepted trades are written to; required
	Partitions int    // of the topic; required: it fixes which partition a trade belongs to

	// Accepting.
	AcceptDeadline time.Duration // from arrival to the latest moment of a 202; default 3 s
	LookupTimeout  time.Duration // of the version look-up; when it passes, the batch goes on unchecked; default 100 ms
	OpenTimeout    time.Duration // of writing PENDING; at most AcceptDeadline; default 2 s
	Flushes        int           // batches under way at once, each of its own share of the partitions; default 2
	MaxBatch       int           // requests in one batch; default 512
	QueueItems     int           // requests between arrival and answer, beyond which new ones are shed; default 4096
	QueueBytes     int           // that those requests hold, at least one request of MaxBodyBytes; default 64 MiB

	// IdempotencyAttempts is how often a key may be tried whose earlier tries ended NOT_DELIVERED; default 16.
	IdempotencyAttempts int

	// Bulk: requests that hold many trades.
	BulkItems int // trades in one of them; default 1000
	BulkBytes int // of its body; the bodies under way hold QueueBytes together, at least one of them; default 1 MiB

	// Reading.
	StoreTimeout  time.Duration // of one read from a store; default 2 s
	MaxExports    int           // exports under way at once; default 2
	ExportTimeout time.Duration // of a whole export; default 10 min
	ProbeTimeout  time.Duration // of one health probe; default 1 s
	ProbeMaxAge   time.Duration // for which the answer of a probe, and of the lag, is given again; default 1 s

	// Waiting for outcomes.
	MaxWait    time.Duration // of one call, whatever it prefers; whole seconds; default 30 s
	MaxStreams int           // of events, open at once; default 1024
	MaxWaiters int           // calls that wait at once; more are answered without waiting; default 4096

	heartbeat time.Duration // between two signs of life of a stream; 15 s but in tests

	// HTTP. Every wait and every size has a limit, because the service faces strangers.
	MaxBodyBytes    int           // of a request; default 16 KiB
	MaxHeaderBytes  int           // of a request, with its first line; default 8 KiB
	ReadTimeout     time.Duration // for a whole request, from its first byte; default 5 s
	WriteTimeout    time.Duration // for a whole answer; default 5 s
	IdleTimeout     time.Duration // between two requests of a connection; default 60 s
	MaxConns        int           // open connections; default 8192
	MaxConnsPerAddr int           // of them from one address (IPv6: one /64 network); default 2048

	// DrainDelay is how long a drain goes on serving as not ready, so that a balancer looks away first; default 0.
	DrainDelay time.Duration
}

// sampleBody is the room that a trade needs at the very least; a smaller body limit would refuse every trade.
const sampleBody = 256

// withDefaults returns c with every zero value replaced.
func (c Config) withDefaults() Config {
	c.AcceptDeadline = cmp.Or(c.AcceptDeadline, 3*time.Second)
	c.LookupTimeout = cmp.Or(c.LookupTimeout, 100*time.Millisecond)
	c.OpenTimeout = cmp.Or(c.OpenTimeout, 2*time.Second)
	c.Flushes = cmp.Or(c.Flushes, 2)
	c.MaxBatch = cmp.Or(c.MaxBatch, 512)
	c.IdempotencyAttempts = cmp.Or(c.IdempotencyAttempts, 16)
	c.BulkItems = cmp.Or(c.BulkItems, 1000)
	c.BulkBytes = cmp.Or(c.BulkBytes, 1<<20)
	c.QueueItems = cmp.Or(c.QueueItems, 4096)
	c.QueueBytes = cmp.Or(c.QueueBytes, 64<<20)
	c.StoreTimeout = cmp.Or(c.StoreTimeout, 2*time.Second)
	c.MaxExports = cmp.Or(c.MaxExports, 2)
	c.ExportTimeout = cmp.Or(c.ExportTimeout, 10*time.Minute)
	c.ProbeTimeout = cmp.Or(c.ProbeTimeout, time.Second)
	c.ProbeMaxAge = cmp.Or(c.ProbeMaxAge, time.Second)
	c.MaxWait = cmp.Or(c.MaxWait, 30*time.Second)
	c.heartbeat = cmp.Or(c.heartbeat, 15*time.Second)
	c.MaxStreams = cmp.Or(c.MaxStreams, 1024)
	c.MaxWaiters = cmp.Or(c.MaxWaiters, 4096)
	c.MaxBodyBytes = cmp.Or(c.MaxBodyBytes, 16<<10)
	c.MaxHeaderBytes = cmp.Or(c.MaxHeaderBytes, 8<<10)
	c.ReadTimeout = cmp.Or(c.ReadTimeout, 5*time.Second)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, 5*time.Second)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, 60*time.Second)
	c.MaxConns = cmp.Or(c.MaxConns, 8192)
	c.MaxConnsPerAddr = cmp.Or(c.MaxConnsPerAddr, 2048)
	return c
}

// Validate lists every mistake in c, one per line, each with the name of its setting; nil if there is none.
func (c Config) Validate() error {
	c = c.withDefaults()
	var mistakes []error
	demand := func(ok bool, format string, args ...any) {
		if !ok {
			mistakes = append(mistakes, fmt.Errorf(format, args...))
		}
	}
	demand(c.Topic != "", "topic: empty")
	for _, limit := range []struct {
		name         string
		value, least int
	}{
		{"partitions", c.Partitions, 1},
		{"flushes", c.Flushes, 1},
		{"max-batch", c.MaxBatch, 1},
		{"idempotency-attempts", c.IdempotencyAttempts, 1},
		{"bulk-items", c.BulkItems, 1},
		{"bulk-bytes", c.BulkBytes, sampleBody},
		{"queue-items", c.QueueItems, 1},
		{"queue-bytes", c.QueueBytes, c.MaxBodyBytes + postOverhead},
		{"max-streams", c.MaxStreams, 1},
		{"max-waiters", c.MaxWaiters, 1},
		{"max-exports", c.MaxExports, 1},
		{"max-body-bytes", c.MaxBodyBytes, sampleBody},
		{"max-header-bytes", c.MaxHeaderBytes, 1 << 10},
		{"max-conns", c.MaxConns, 1},
		{"max-conns-per-addr", c.MaxConnsPerAddr, 1},
	} {
		demand(limit.value >= limit.least, "%s: %d is less than %d", limit.name, limit.value, limit.least)
	}
	for _, limit := range []struct {
		name  string
		value time.Duration
	}{
		{"accept-deadline", c.AcceptDeadline},
		{"lookup-timeout", c.LookupTimeout},
		{"open-timeout", c.OpenTimeout},
		{"store-timeout", c.StoreTimeout},
		{"export-timeout", c.ExportTimeout},
		{"probe-timeout", c.ProbeTimeout},
		{"probe-max-age", c.ProbeMaxAge},
		{"read-timeout", c.ReadTimeout},
		{"write-timeout", c.WriteTimeout},
		{"idle-timeout", c.IdleTimeout},
	} {
		demand(limit.value > 0, "%s: %v is not more than 0", limit.name, limit.value)
	}
	demand(c.OpenTimeout <= c.AcceptDeadline, "open-timeout: %v is longer than accept-deadline %v", c.OpenTimeout, c.AcceptDeadline)
	demand(c.MaxWait >= time.Second, "max-wait: %v is less than 1s", c.MaxWait)
	demand(c.DrainDelay >= 0, "drain-delay: %v is less than 0", c.DrainDelay)
	return errors.Join(mistakes...)
}
