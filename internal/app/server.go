package app

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
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
	pools, err := cfg.openPools(ctx, env.Registry)
	defer pools.close()
	if err != nil {
		return err
	}
	producer, err := kafka.NewProducer(cfg.producer(), env.Registry, env.Log)
	if err != nil {
		return err
	}
	defer producer.Close()

	store, err := cfg.RequestStore.open(ctx, pools.requests, 0, env)
	if err != nil {
		return err
	}
	defer store.close()
	rules := stores{cfg.StoreFlags, 0, cfg.promises(), attemptLimit, env.ConfirmFor}
	monitor, err := rules.monitor(env, producer, pools.requests, store)
	if err != nil {
		return err
	}
	accept := &gate{}
	deps := server.Deps{
		Requests: store.entries, Keys: store.entries,
		LookUp:   postgres.NewReader(pools.lookUps),
		Trades:   postgres.NewReader(pools.reads),
		Past:     postgres.NewReader(pools.past),
		Journal:  postgres.NewStore(pools.reads, postgres.StoreConfig{Topic: cfg.Kafka.Topic}),
		Kafka:    producer,
		Checks:   append(cfg.checks(pools.health, store, producer, accept), env.Checks...),
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

// healthConns is one for each check that asks PostgreSQL.
const healthConns = 2

// serverPools are the connections of a server to PostgreSQL, by what they are for. Calls of one kind that wait for the
// database, or for a connection, hold up no call of another kind.
type serverPools struct {
	requests *pgxpool.Pool // PENDING entries, the status of requests, the checks of topic and schema
	lookUps  *pgxpool.Pool // of versions, one at a time for each flush
	reads    *pgxpool.Pool // of trades, exports, the lag, streams
	past     *pgxpool.Pool // histories, and trades as of an instant
	health   *pgxpool.Pool // readiness and health
}

// openPools connects to nothing yet. What was opened before an error is to be closed as well.
func (c ServerConfig) openPools(ctx context.Context, reg prometheus.Registerer) (p serverPools, err error) {
	for _, pool := range []struct {
		into  **pgxpool.Pool
		name  string
		conns int
	}{
		{&p.requests, "requests", c.Server.RequestConns},
		{&p.lookUps, "lookups", c.Server.Flushes},
		{&p.reads, "reads", c.Server.ReadConns},
		{&p.past, "past", server.MaxPastReads},
		{&p.health, "health", healthConns},
	} {
		if *pool.into, err = postgres.Open(ctx, c.Database.pool(pool.name, pool.conns), reg); err != nil {
			return p, err
		}
	}
	return p, nil
}

func (p serverPools) close() {
	for _, pool := range []*pgxpool.Pool{p.requests, p.lookUps, p.reads, p.past, p.health} {
		if pool != nil {
			pool.Close()
		}
	}
}

// checks are the probes of readiness and health. Each is bounded by its context. With the request store on
// DynamoDB, trades are accepted while PostgreSQL is down.
func (c ServerConfig) checks(
	health *pgxpool.Pool, log requestStore, producer *kgo.Client, accept *gate,
) []server.Check {
	entries := health.Ping
	if c.RequestStore.Kind == onDynamoDB {
		entries = log.probe
	}
	return []server.Check{
		{Name: "database", Probe: health.Ping, Spare: c.RequestStore.Kind == onDynamoDB},
		{Name: "kafka", Probe: func(ctx context.Context) error { return kafka.Ping(ctx, producer) }},
		{Name: "request_store", Probe: entries},
		{Name: "checks", Probe: func(context.Context) error { return accept.err() }},
	}
}

func (f DatabaseFlags) pool(name string, conns int) postgres.Config {
	return postgres.Config{URL: f.URL, MaxConns: conns, ApplicationName: "tradestore-" + name}
}
