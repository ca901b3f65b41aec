// Package server is the HTTP side: it takes trades, tracks them until the log has them, and answers reads.
//
// The accept line reads handler (accept.go), batcher (batcher.go), answer. Reads go straight to the stores.
package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/fasthttp/router"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/valyala/fasthttp"

	"tradestore/internal/telemetry"
)

// Deps are what the server works with. It closes none of them. Checks may be empty and Now may be nil, for time.Now.
type Deps struct {
	Requests RequestStore
	Keys     KeyedStore // the same request store, for requests under idempotency keys
	Trades   TradeReader
	Journal  Journal
	Kafka    *kgo.Client // a producer from package kafka
	Checks   []Check     // what has to be well before the server is ready
	Registry *prometheus.Registry
	Log      zerolog.Logger
	Tracer   *telemetry.Tracer // nil traces nothing
	Now      func() time.Time  // the clock that business dates come from
}

// Server is the HTTP side of the service. Its methods may be called concurrently.
type Server struct {
	cfg      Config
	requests RequestStore
	trades   TradeReader
	kafka    *kgo.Client
	registry *prometheus.Registry
	tracer   *telemetry.Tracer
	now      func() time.Time

	log      zerolog.Logger
	refusals zerolog.Logger // sampled: clients decide how many there are
	failures zerolog.Logger // sampled: an outage makes one of every request
	panics   zerolog.Logger // sampled: a request that meets a bug can be repeated; apart, so that no outage hides them

	m        *metrics
	batcher  *batcher
	pendings *throttle // of looking for the PENDING requests of a trade
	bodies   *bodies
	health   *health
	outcomes *outcomeNotifier
	lag      *lag
	waits    slots
	journal  Journal
	follower *journalFollower
	streams  slots
	exports  slots
	router   *router.Router
	http     *fasthttp.Server
	draining atomic.Bool
	conns    atomic.Pointer[conns] // nil before Serve
}

// New builds a server that does nothing until Serve. Errors: the mistakes in cfg, a missing dependency, or a registry
// that another server uses.
func New(cfg Config, deps Deps) (*Server, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, fmt.Errorf("cannot build the server: %w", err)
	}
	if deps.Requests == nil || deps.Keys == nil || deps.Trades == nil || deps.Journal == nil || deps.Kafka == nil || deps.Registry == nil {
		return nil, errors.New("cannot build the server: request store, its keys, trade reader, journal, Kafka client and registry are required")
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	s := &Server{
		cfg:      cfg,
		requests: deps.Requests,
		trades:   deps.Trades,
		kafka:    deps.Kafka,
		registry: deps.Registry,
		tracer:   deps.Tracer,
		now:      deps.Now,
		log:      deps.Log,
		refusals: telemetry.Sampled(deps.Log),
		failures: telemetry.Sampled(deps.Log),
		panics:   telemetry.Sampled(deps.Log),
		m:        newMetrics(),
	}
	s.pendings = newThrottle()
	s.batcher = newBatcher(&s.cfg, &deps, s.m)
	s.bodies = newBodies(&s.cfg)
	s.health = newHealth(&s.cfg, deps.Checks, s.m, deps.Log)
	s.outcomes = newOutcomeNotifier(&s.cfg, deps.Requests, s.m, deps.Log)
	s.lag = newLag(&s.cfg, &deps, s.m)
	s.journal, s.follower = deps.Journal, newJournalFollower(&s.cfg, &deps, s.outcomes.closed, s.m)
	s.streams.limit = int64(s.cfg.MaxStreams)
	s.waits.limit = int64(s.cfg.MaxWaiters)
	s.exports.limit = int64(s.cfg.MaxExports)
	s.router = s.routes()
	s.http = s.newHTTP()
	s.gauges()
	if err := s.m.Register(deps.Registry, "the server"); err != nil {
		return nil, err
	}
	return s, nil
}

// newHTTP sets every limit that fasthttp has: most of its defaults are "none".
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
		ReadBufferSize:        s.cfg.MaxHeaderBytes,
		// conns bounds connections, in a way that counts IPv6 too and answers with a problem. A worker outlives its
		// connection by a moment, hence the slack.
		Concurrency:                  2 * s.cfg.MaxConns,
		CloseOnShutdown:              true,
		DisablePreParseMultipartForm: true, // a form is a body like any other: refused by its type
		NoDefaultServerHeader:        true,
		NoDefaultContentType:         true,
		// Left off: StreamRequestBody (bodies are small and bounded) and ReduceMemoryUsage (it trades time of busy
		// connections for the buffers of idle ones, which MaxConns bounds to about 20 KiB each).
	}
}

func (s *Server) gauges() {
	s.m.gauge("tradestore_accept_queue_items", "Trades that wait for a flush.", func() int { return s.batcher.held().waiting })
	s.m.gauge("tradestore_accept_in_flight", "Trades between arrival and answer.", func() int { return s.batcher.held().items })
	s.m.gauge("tradestore_accept_in_flight_limit", "Trades that may be between arrival and answer at once (--queue-items).", func() int { return s.cfg.QueueItems })
	s.m.gauge("tradestore_accept_in_flight_bytes", "Bytes held by trades between arrival and answer.", func() int { return s.batcher.held().bytes })
	s.m.gauge("tradestore_accept_in_flight_limit_bytes", "Bytes that those may hold (--queue-bytes).", func() int { return s.cfg.QueueBytes })
	s.m.gauge("tradestore_wait_waiting", "Calls that wait for the outcome of a request.", s.waits.count)
	s.m.gauge("tradestore_wait_limit", "Calls that may wait at once (--max-waiters).", func() int { return s.cfg.MaxWaiters })
	s.m.gauge("tradestore_stream_open", "Open streams of events.", s.streams.count)
	s.m.gauge("tradestore_stream_limit", "Streams that may be open at once (--max-streams).", func() int { return s.cfg.MaxStreams })
	s.m.gauge("tradestore_lag_records", "Records in the log that are not applied, as this server saw it last; see GET /api/v1/lag.", func() int { return int(s.lag.behind.Load()) })
	s.m.gauge("tradestore_http_bulk_bytes", "Bytes that the bodies of bulk requests under way hold, or will hold.", s.bodies.held)
	s.m.gauge("tradestore_http_bulk_limit_bytes", "Bytes that those may hold (--queue-bytes).", func() int { return s.bodies.limit })
	s.m.gauge("tradestore_http_connections", "Open connections.", func() int {
		if open := s.conns.Load(); open != nil {
			return open.count()
		}
		return 0
	})
	s.m.gauge("tradestore_http_connections_limit", "Connections that may be open at once (--max-conns).", func() int { return s.cfg.MaxConns })
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
	s.batcher.run()
	go s.outcomes.run()
	go s.follower.run()
	go s.lag.run(s.outcomes.closed)
	if err := s.http.Serve(open); err != nil {
		return fmt.Errorf("cannot go on serving on %s: %w", ln.Addr(), err)
	}
	return nil
}

// Drain ends the service in order (invariant C10): not ready, a pause in which balancers look away (setting
// drain-delay), no new connections, the last answers, the last records. Whatever is not done when ctx ends is cut off,
// which loses nothing that was promised. It returns what could not be finished.
func (s *Server) Drain(ctx context.Context) error {
	s.draining.Store(true)
	s.outcomes.close() // whoever waits is answered with what is known
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
	step("empty the accept queue", s.batcher.close(ctx))
	step("deliver the last records", s.kafka.Flush(ctx))
	return errors.Join(unfinished...)
}

// wireLog takes what fasthttp logs about connections. The arguments are left out: they quote what strangers sent.
type wireLog struct{ log zerolog.Logger }

// Printf logs the kind of the event.
func (l wireLog) Printf(format string, _ ...any) {
	l.log.Debug().Str("event", format).Msg("connection")
}
