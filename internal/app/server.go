package app

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"tradestore/kafka"
	"tradestore/postgres"
	"tradestore/server"
)

// RunServer runs the server role until ctx ends, then drains it, and returns nil if nothing was cut off. A store that
// is down when it starts delays readiness, nothing more; a schema or a topic that is not the one this build was set up
// for is an error, at once (rules T8, T9). Other errors: a setting that can't be used, an address that can't be
// listened on.
func RunServer(ctx context.Context, cfg ServerConfig, env Env) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	env, err := env.complete(ctx, "tradestore-server", cfg.Listen, cfg.Process.DrainTimeout)
	if err != nil {
		return err
	}
	defer env.close()
	requests, err := postgres.Open(ctx, cfg.Database.pool("requests", cfg.Server.RequestConns), env.Registry)
	if err != nil {
		return err
	}
	defer requests.Close()
	reads, err := postgres.Open(ctx, cfg.Database.pool("reads", cfg.Server.ReadConns), env.Registry)
	if err != nil {
		return err
	}
	defer reads.Close()
	producer, err := kafka.NewProducer(cfg.producer(), env.Registry, env.Log)
	if err != nil {
		return err
	}
	defer producer.Close()

	store, err := cfg.RequestStore.open(ctx, requests, 0, env)
	if err != nil {
		return err
	}
	defer store.close()
	rules := stores{cfg.StoreFlags, 0, cfg.promises(), attemptLimit, env.ConfirmFor}
	monitor, err := rules.monitor(env, producer, requests, store)
	if err != nil {
		return err
	}
	accept := &gate{}
	deps := server.Deps{
		Requests: store.entries, Keys: store.entries,
		Trades:   postgres.NewReader(reads),
		Journal:  postgres.NewStore(reads, postgres.StoreConfig{Topic: cfg.Kafka.Topic}),
		Kafka:    producer,
		Checks:   append(cfg.checks(reads, store, producer, accept), env.Checks...),
		Registry: env.Registry,
		Log:      env.Log,
		Tracer:   env.tracer,
		Now:      env.Now,
		Verified: accept.err,
	}
	env.Stores.ofServer(&deps)
	srv, err := server.New(cfg.Role(), deps)
	if err != nil {
		return err
	}
	env.Link.to(srv.OutcomesShown)
	work, running := errgroup.WithContext(ctx)
	work.Go(func() error { return srv.Serve(env.Listener) })
	work.Go(func() error {
		err := unlessOver(running, accept.keep(running, env.Log, cfg.Process.CheckInterval, monitor))
		return delayExit(running, env.Log, env.ExitDelay, err) // the gate is shut, reads and metrics go on
	})
	<-running.Done()
	return cfg.drain(context.WithoutCancel(ctx), env.Log, srv, work)
}

// drain ends the server within --drain-timeout and returns the errors of its work and of the drain.
func (c ServerConfig) drain(ctx context.Context, log zerolog.Logger, srv *server.Server, work *errgroup.Group) error {
	ctx, cancel := context.WithTimeout(ctx, c.Process.DrainTimeout)
	defer cancel()
	log.Info().Msg("draining")
	drained := srv.Drain(ctx)
	return errors.Join(work.Wait(), drained)
}

// checks are the probes of readiness and health. Each is bounded by its context. With the request store on
// DynamoDB, trades are accepted while PostgreSQL is down.
func (c ServerConfig) checks(reads *pgxpool.Pool, log requestStore, producer *kgo.Client, accept *gate) []server.Check {
	return []server.Check{
		{Name: "database", Probe: reads.Ping, Spare: c.RequestStore.Kind == onDynamoDB},
		{Name: "kafka", Probe: func(ctx context.Context) error { return kafka.Ping(ctx, producer) }},
		{Name: "request_store", Probe: log.probe},
		{Name: "checks", Probe: func(context.Context) error { return accept.err() }},
	}
}

func (f DatabaseFlags) pool(name string, conns int) postgres.Config {
	return postgres.Config{URL: f.URL, MaxConns: conns, ApplicationName: "tradestore-" + name}
}
