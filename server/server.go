// Package server is the HTTP side: it takes trades, tracks them until the log has them, and answers reads.
//
// The path of a POST is: handler (accept.go, bulk.go), queue (queue.go), flush (flush.go), reply. Reads go straight to
// the stores. Every Retry-After is computed in retry.go.
package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fasthttp/router"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/valyala/fasthttp"

	"tradestore/internal/telemetry"
)

// Deps are what the server works with. It closes none of them. LookUp, Trades and Past have connections of their own,
// so that reads do not hold up the accept path, and long reads no short ones.
type Deps struct {
	Requests RequestStore
	Keys     KeyedStore // the same request store, for requests under idempotency keys
	LookUp   VersionLookUp
	Trades   TradeReader
	Past     PastReader
	Journal  Journal
	Kafka    *kgo.Client // a producer from package kafka
	Checks   []Check     // of health and readiness; may be empty
	Registry *prometheus.Registry
	Log      zerolog.Logger
	Tracer   *telemetry.Tracer // nil traces nothing
	Now      func() time.Time  // the clock of business dates; nil: time.Now

	// Verified returns an error while schema and topic are not verified. POSTs are rejected meanwhile: a 202 to the wrong
	// topic would lose the trade. It is called for every POST, from any goroutine.
	Verified func() error
}

// Server is the HTTP side of the service. Its methods may be called concurrently.
type Server struct {
	cfg      Config
	requests RequestStore
	trades   TradeReader
	past     PastReader
	kafka    *kgo.Client
	registry *prometheus.Registry
	journal  Journal
	now      func() time.Time

	log      zerolog.Logger
	refusals zerolog.Logger // sampled: clients decide how many there are
	failures zerolog.Logger // sampled: an outage makes one of every request
	panics   zerolog.Logger // sampled: clients may repeat a request that panics; of its own, so that no outage hides it

	m        *metrics
	observe  *observer
	queue    *queue
	flusher  *flusher
	throttle *throttle // of look-ups of the PENDING requests of a trade
	bodies   *bodies
	health   *health
	lag      *lag
	outcomes *outcomeNotifier
	follower *journalFollower
	waits    slots
	streams  slots
	exports  slots
	pasts    turns // of reads of the past
	router   *router.Router
	http     *fasthttp.Server
	conns    atomic.Pointer[conns] // nil before Serve

	draining  atomic.Bool
	waitsOver chan struct{} // closed by endWaits
	endWaits  func()        // ends every wait and stream, now and later; may be repeated
}

// New builds a server that does nothing until Serve. Errors: mistakes in cfg, a missing dependency, or a registry that
// another server uses.
func New(cfg Config, deps Deps) (*Server, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, fmt.Errorf("cannot build the server: %w", err)
	}
	if deps.Requests == nil || deps.Keys == nil || deps.LookUp == nil || deps.Trades == nil || deps.Past == nil ||
		deps.Journal == nil || deps.Kafka == nil || deps.Verified == nil || deps.Registry == nil {
		return nil, errors.New("cannot build the server: " +
			"request store, its keys, readers of trades, journal, Kafka client, checks and registry are required")
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	s := &Server{
		cfg: cfg, requests: deps.Requests, trades: deps.Trades, past: deps.Past, kafka: deps.Kafka,
		registry: deps.Registry, journal: deps.Journal, now: deps.Now, log: deps.Log, refusals: telemetry.Sampled(deps.Log),
		failures: telemetry.Sampled(deps.Log), panics: telemetry.Sampled(deps.Log), m: newMetrics(),
		throttle: newThrottle(), waitsOver: make(chan struct{}),
	}
	s.endWaits = sync.OnceFunc(func() { close(s.waitsOver) })
	s.observe = &observer{m: s.m, tracer: deps.Tracer, topic: s.cfg.Topic}
	s.queue = newQueue(&s.cfg, deps.Verified, s.m)
	s.flusher = newFlusher(&s.cfg, &deps, s.queue, s.observe)
	s.bodies = newBodies(&s.cfg)
	s.health = newHealth(&s.cfg, deps.Checks, s.m, deps.Log)
	s.lag = newLag(&s.cfg, &deps, s.m)
	s.outcomes = newOutcomeNotifier(&s.cfg, &deps, s.m, s.waitsOver)
	s.follower = newJournalFollower(&s.cfg, &deps, s.m, s.waitsOver)
	s.streams.limit = int64(s.cfg.MaxStreams)
	s.waits.limit = int64(s.cfg.MaxWaiters)
	s.exports.limit = int64(s.cfg.MaxExports)
	s.pasts = make(turns, s.cfg.MaxPastReads)
	s.router = s.routes()
	s.http = s.newHTTP()
	s.addGauges()
	if err := s.m.Register(deps.Registry, "the server"); err != nil {
		return nil, err
	}
	return s, nil
}

// newHTTP sets every limit of fasthttp: most of its defaults are "none".
func (s *Server) newHTTP() *fasthttp.Server {
	return &fasthttp.Server{
		Handler:               s.handle,
		ErrorHandler:          s.onWireError,
		Logger:                wireLog{s.log},
		SecureErrorLogMessage: true, // no bytes of a message in its errors
		ReadTimeout:           s.cfg.ReadTimeout,
		WriteTimeout:          s.cfg.WriteTimeout,
		IdleTimeout:           s.cfg.IdleTimeout,
		MaxRequestBodySize:    s.cfg.MaxBodyBytes,
		HeaderReceived:        s.bodies.enter,
		ConnState:             noteState,
		ReadBufferSize:        s.cfg.MaxHeaderBytes,
		// conns bounds connections: it counts IPv6 too and answers with a problem. A goroutine of fasthttp outlives its
		// connection by a moment, hence the slack.
		Concurrency:                  2 * s.cfg.MaxConns,
		CloseOnShutdown:              true,
		DisablePreParseMultipartForm: true, // a form is refused by its type, like any other body
		NoDefaultServerHeader:        true,
		NoDefaultContentType:         true,
		// Left off: StreamRequestBody, because bodies are small and bounded; ReduceMemoryUsage, because it costs busy
		// connections time to save the buffers of idle ones, which are about 20 KiB each.
	}
}

// addGauges adds the families that are read when they are scraped.
func (s *Server) addGauges() {
	limit := func(n int) func() int { return func() int { return n } }
	for _, g := range []struct {
		name, help string
		value      func() int
	}{
		{"tradestore_accept_queue_items", "Trades that wait for a flush.", func() int { return s.queue.snapshot().waiting }},
		{"tradestore_accept_in_flight", "Trades between arrival and answer.", func() int { return s.queue.snapshot().items }},
		{"tradestore_accept_in_flight_limit", "Trades that may be between arrival and answer at once (--queue-items).",
			limit(s.cfg.QueueItems)},
		{"tradestore_accept_in_flight_bytes", "Bytes held by trades between arrival and answer.",
			func() int { return s.queue.snapshot().bytes }},
		{"tradestore_accept_in_flight_limit_bytes", "Bytes that those may hold (--queue-bytes).", limit(s.cfg.QueueBytes)},
		{"tradestore_wait_waiting", "Calls that wait for the outcome of a request.", s.waits.count},
		{"tradestore_wait_limit", "Calls that may wait at once.", limit(s.cfg.MaxWaiters)},
		{"tradestore_stream_open", "Open streams of events.", s.streams.count},
		{"tradestore_stream_limit", "Streams that may be open at once.", limit(s.cfg.MaxStreams)},
		{"tradestore_past_reads", "Reads of a history, or of a trade as of an instant, that run now.", s.pasts.count},
		{"tradestore_past_reads_limit", "Such reads that may run at once.", limit(s.cfg.MaxPastReads)},
		{"tradestore_lag_records",
			"Records in the log that are not applied, as this server saw it last; see GET /api/v1/lag.",
			func() int { return int(s.lag.behind.Load()) }},
		{"tradestore_http_bulk_bytes", "Bytes that the bodies of bulk requests under way hold, or will hold.",
			s.bodies.reserved},
		{"tradestore_http_bulk_limit_bytes", "Bytes that those may hold (--queue-bytes).", limit(s.bodies.limit)},
		{"tradestore_http_connections", "Open connections.", func() int {
			if open := s.conns.Load(); open != nil {
				return open.count()
			}
			return 0
		}},
		{"tradestore_http_connections_limit", "Connections that may be open at once (--max-conns).", limit(s.cfg.MaxConns)},
	} {
		s.m.GaugeFunc(g.name, g.help, func() float64 { return float64(g.value()) })
	}
}

// Serve answers requests that arrive on ln until Drain, then returns nil. It closes ln. It is called once.
func (s *Server) Serve(ln net.Listener) error {
	open := newConns(ln, &s.cfg, s.m)
	if !s.conns.CompareAndSwap(nil, open) {
		return errors.New("cannot serve twice")
	}
	if s.draining.Load() { // Drain may have looked for the listener before it was there
		_ = ln.Close()
		return nil
	}
	s.flusher.run()
	go s.outcomes.run()
	go s.follower.run()
	ended := make(chan struct{})
	defer close(ended)
	go s.lag.run(ended)
	if err := s.http.Serve(open); err != nil {
		return fmt.Errorf("cannot go on serving on %s: %w", ln.Addr(), err)
	}
	return nil
}

// Drain ends the service in order (C10): not ready, a pause for load balancers to notice (setting drain-delay), no new
// connections, the last answers, the last records. What is not done when ctx ends is cut off; that breaks no promise.
// It returns what could not be finished.
func (s *Server) Drain(ctx context.Context) error {
	s.draining.Store(true)
	s.endWaits() // waiting calls are answered with what is known
	pause := time.NewTimer(s.cfg.DrainDelay)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
	}
	if open := s.conns.Load(); open != nil {
		_ = open.Close() // Shutdown closes it too, but does not know a listener that Serve is only about to use
	}
	var unfinished []error
	step := func(what string, err error) {
		if err != nil {
			unfinished = append(unfinished, fmt.Errorf("cannot %s in time (setting drain-timeout): %w", what, err))
		}
	}
	step("finish the requests under way", s.http.ShutdownWithContext(ctx))
	step("empty the accept queue", s.flusher.close(ctx))
	step("deliver the last records", s.kafka.Flush(ctx))
	return errors.Join(unfinished...)
}

// wireLog logs what fasthttp says about connections, without the arguments: they quote what clients sent.
type wireLog struct{ log zerolog.Logger }

// Printf logs the kind of the event.
func (l wireLog) Printf(format string, _ ...any) {
	l.log.Debug().Str("event", format).Msg("connection")
}
