// Package dev runs everything in one process for one machine: the server, the worker, an embedded Kafka and, unless a
// database is given, an embedded PostgreSQL. The roles are the same as in production.
package dev

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"tradestore/internal/apiclient"
	"tradestore/internal/app"
	"tradestore/internal/dev/embedded"
	"tradestore/internal/proc"
	"tradestore/server"
)

const (
	migrateWait = time.Minute
	readyPoll   = 250 * time.Millisecond // each poll of a role that is not ready is a line in the log
	noteName    = "dev.json"
)

// Run starts everything and prints the addresses on out when all of it is ready. When ctx ends it drains the server,
// then the worker, then the broker, then the database. Nil means that nothing was cut off. A mistake of the user is an
// error of one line that names the flag.
func Run(ctx context.Context, cfg Config, out io.Writer, log zerolog.Logger) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	if cfg.Remove {
		return Remove(ctx, cfg.DataDir)
	}
	s := &runner{cfg: cfg, out: out, log: log}
	defer s.close()
	err := s.start(ctx)
	if err == nil {
		return s.serve(ctx)
	}
	if ctx.Err() != nil {
		return nil // stopped while it started: nothing had been accepted
	}
	return err
}

// Remove deletes the data folder, and the database files where they are elsewhere. Errors: the folder is in use.
func Remove(ctx context.Context, dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	unlock, err := lock(dir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := embedded.Remove(ctx, filepath.Join(dir, "postgres")); err != nil {
		return err
	}
	for _, name := range []string{"kafka", noteName, "lock"} { // other files stay: the folder may be a mistake
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("cannot remove the data folder (--data-dir): %w", err)
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, syscall.ENOTEMPTY) {
		return fmt.Errorf("cannot remove the data folder (--data-dir): %w", err)
	}
	return nil
}

// runner holds everything that runs, in the order in which it was started.
type runner struct {
	cfg      Config
	out      io.Writer
	log      zerolog.Logger
	unlock   func()
	api      net.Listener
	probes   net.Listener // of the worker
	broker   *embedded.Kafka
	postgres *embedded.Postgres // nil with --database-url
	stores   stores
}

// start starts everything but the roles. After an error, close stops what was started.
func (s *runner) start(ctx context.Context) error {
	var err error
	if s.unlock, err = lock(s.cfg.DataDir); err != nil {
		return err
	}
	if s.api, err = listen("--listen", s.cfg.Listen); err != nil {
		return err
	}
	if s.probes, err = listen("--worker-listen", s.cfg.WorkerListen); err != nil {
		return err
	}
	if err := s.startBroker(); err != nil {
		return err
	}
	if err := s.startPostgres(ctx); err != nil {
		return err
	}
	if err := app.Migrate(ctx, s.cfg.migration(s.stores), s.logOf("migrate")); err != nil {
		return err
	}
	return s.writeNote()
}

func (s *runner) logOf(role string) zerolog.Logger { return s.log.With().Str("role", role).Logger() }

func (s *runner) startBroker() error {
	var err error
	s.broker, err = embedded.StartKafka(embedded.KafkaConfig{
		Dir: filepath.Join(s.cfg.DataDir, "kafka"), Port: s.cfg.KafkaPort, Log: s.logOf("kafka"),
	})
	if errors.Is(err, proc.ErrPortTaken) {
		return fmt.Errorf("%w; choose another with --kafka-port", err)
	}
	if err != nil {
		return fmt.Errorf("%w (--data-dir)", err)
	}
	s.stores.kafka = s.broker.Addrs()
	return nil
}

func (s *runner) startPostgres(ctx context.Context) error {
	if s.stores.database = s.cfg.DatabaseURL; s.stores.database != "" {
		return nil
	}
	var err error
	s.postgres, err = embedded.Start(ctx, embedded.Config{
		Dir: filepath.Join(s.cfg.DataDir, "postgres"), Port: s.cfg.PostgresPort, Log: s.logOf("postgres"),
	})
	if errors.Is(err, proc.ErrPortTaken) {
		return fmt.Errorf("%w; choose another with --postgres-port", err)
	}
	if err != nil {
		return fmt.Errorf("%w; --data-dir chooses another folder, --database-url a PostgreSQL of your own", err)
	}
	s.stores.database = s.postgres.URL()
	return nil
}

// serve runs the roles until ctx ends or one of them fails, and drains them in order, so that the worker can finish
// what the server accepted last.
func (s *runner) serve(ctx context.Context) error {
	serving, stopServer := context.WithCancel(ctx)
	defer stopServer()
	working, stopWorker := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWorker()
	go s.greet(serving)

	link := &app.Link{}
	workerEnd := make(chan error, 1)
	go func() {
		env := app.Env{Log: s.logOf("worker"), Listener: s.probes, Link: link}
		workerEnd <- app.RunWorker(working, s.cfg.worker(s.stores), env)
		stopServer() // neither role is of use without the other
	}()
	serverErr := app.RunServer(serving, s.cfg.server(s.stores), app.Env{
		Log: s.logOf("server"), Listener: s.api, Checks: s.checks(), Link: link,
	})
	stopWorker()
	return errors.Join(serverErr, <-workerEnd)
}

// checks adds the state of the PostgreSQL process to readiness. It explains more than a refused connection.
func (s *runner) checks() []server.Check {
	if s.postgres == nil {
		return nil
	}
	return []server.Check{{Name: "embedded_postgres", Probe: func(context.Context) error { return s.postgres.State() }}}
}

// close stops what runs, in reverse order.
func (s *runner) close() {
	for _, ln := range []net.Listener{s.api, s.probes} {
		if ln != nil {
			ln.Close()
		}
	}
	if s.broker != nil {
		s.broker.Close()
	}
	if s.postgres != nil {
		s.postgres.Stop()
	}
	if s.unlock != nil {
		s.unlock()
	}
}

// greet prints the banner once both roles are ready.
func (s *runner) greet(ctx context.Context) {
	poll := time.NewTicker(readyPoll)
	defer poll.Stop()
	for apiclient.Ready(ctx, baseURL(s.probes)) != nil || apiclient.Ready(ctx, baseURL(s.api)) != nil {
		select {
		case <-poll.C:
		case <-ctx.Done():
			return
		}
	}
	s.banner(time.Now())
}

// lock makes the data folder and takes it for this process.
func lock(dir string) (unlock func(), err error) {
	if err := embedded.MakeDir(dir); err != nil {
		return nil, fmt.Errorf("cannot use %s for data: %w; choose another with --data-dir", dir, err)
	}
	unlock, err = proc.Lock(filepath.Join(dir, "lock"))
	if errors.Is(err, proc.ErrLocked) {
		return nil, fmt.Errorf("%s is in use by another 'tradestore dev'; choose another folder with --data-dir", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot use %s for data: %w; choose another with --data-dir", dir, err)
	}
	return unlock, nil
}

func listen(flag, address string) (net.Listener, error) {
	ln, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("cannot listen on %s: the address is in use; choose another with %s", address, flag)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s (%s): %w", address, flag, err)
	}
	return ln, nil
}

// writeNote tells tools where everything is. It holds the database's password. A reader sees the old file or the new.
func (s *runner) writeNote() error {
	note, err := json.MarshalIndent(map[string]string{
		"api": baseURL(s.api), "worker": baseURL(s.probes), "kafka": s.stores.kafka[0], "database": s.stores.database,
	}, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(s.cfg.DataDir, noteName)
	if err := os.WriteFile(path+".new", append(note, '\n'), 0o600); err != nil {
		return fmt.Errorf("cannot write to the data folder (--data-dir): %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("cannot write to the data folder (--data-dir): %w", err)
	}
	return nil
}
