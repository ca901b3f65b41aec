// Package app builds one role of the service from its settings, runs it and drains it. It alone knows which adapter
// stands behind which interface. The commands and the process that runs both roles use it.
package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"tradestore/internal/checks"
	"tradestore/internal/telemetry"
	"tradestore/kafka"
	"tradestore/server"
)

// Env is what the process gives to a role. Only Log is required.
type Env struct {
	Log      zerolog.Logger
	Registry *prometheus.Registry // of this role alone: roles register the same names; nil makes one
	Listener net.Listener         // closed by the role at its end; nil listens on the address in the settings
	Checks   []server.Check       // further checks of the server's readiness
	Now      func() time.Time     // nil is time.Now
	Link     *Link                // to the other role in the same process; nil without one
	Stores   *Stores              // replaces stores in a benchmark; nil: the stores of the settings

	// ExitDelay is how long a role stays up, not ready, before a fatal exit, so that a scrape sees why; 0 exits at once.
	ExitDelay time.Duration

	// ConfirmFor is how long a check must fail that a failover can show for a moment (rule T8). 0 is checks.ConfirmFor.
	ConfirmFor time.Duration

	tracer      *telemetry.Tracer // nil: traces are off
	stopTracing func()
}

// Link notifies the server when the worker of the same process shows outcomes: waiting clients get them at once.
// Without a link the server finds outcomes by reading. The zero value is ready to use. The methods may be called
// concurrently, and on nil.
type Link struct{ shown atomic.Pointer[func()] }

// to sets the function that notify calls.
func (l *Link) to(shown func()) {
	if l != nil {
		l.shown.Store(&shown)
	}
}

// notify calls the function, if there is one.
func (l *Link) notify() {
	if l == nil {
		return
	}
	if shown := l.shown.Load(); shown != nil {
		(*shown)()
	}
}

// complete sets every field that is nil, and starts the traces of the service. The caller calls close, at the latest
// one drain after the end of ctx. Errors: the address cannot be listened on, or a variable for traces cannot be used.
func (e Env) complete(ctx context.Context, service, address string, drain time.Duration) (Env, error) {
	if e.Registry == nil {
		e.Registry = telemetry.NewRegistry()
	}
	if e.Now == nil {
		e.Now = time.Now
	}
	e.ConfirmFor = cmp.Or(e.ConfirmFor, checks.ConfirmFor)
	if e.Listener == nil {
		ln, err := listen(address)
		if err != nil {
			return e, err
		}
		e.Listener = ln
	}
	var err error
	if e.tracer, e.stopTracing, err = startTracing(ctx, service, drain, e.Log); err != nil {
		_ = e.Listener.Close()
		return e, err
	}
	e.Log.Info().Stringer("address", e.Listener.Addr()).Msg("listening")
	warnIfOpen(e.Log, e.Listener.Addr())
	return e, nil
}

// close stops what complete started. The listener may be closed already, so its error is ignored.
func (e Env) close() {
	_ = e.Listener.Close()
	e.stopTracing()
}

// listen runs before anything else of a role: a port in use is the most common mistake, and must show before the role
// waits for a database.
func listen(address string) (net.Listener, error) {
	ln, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("cannot listen on %s: the address is in use; choose another with --listen", address)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s (--listen): %w", address, err)
	}
	return ln, nil
}

// warnIfOpen warns when other machines can reach the address, because there is no authentication.
func warnIfOpen(log zerolog.Logger, address net.Addr) {
	if tcp, ok := address.(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
		log.Warn().Stringer("address", address).
			Msg("anyone who reaches this address can use it: there is no authentication; --listen takes a loopback address")
	}
}

// client returns the settings of a Kafka client of the name given.
func (f KafkaFlags) client(id string) kafka.Config {
	return kafka.Config{Brokers: f.Brokers, Topic: f.Topic, ClientID: id}
}
