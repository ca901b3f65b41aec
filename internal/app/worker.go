package app

import (
	"context"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"tradestore/internal/checks"
	"tradestore/kafka"
	"tradestore/postgres"
	"tradestore/worker"
)

// RunWorker runs the worker role until ctx ends, then drains it and returns nil. Stores that are down are waited for,
// without end. Errors: a setting that can't be used, an address that can't be listened on, and the loud stop of a
// worker whose schema, topic or store is not what it relies on (rules T8, T9).
func RunWorker(ctx context.Context, cfg WorkerConfig, env Env) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	env, err := env.complete(ctx, "tradestore-worker", cfg.Listen, cfg.Process.DrainTimeout)
	if err != nil {
		return err
	}
	defer env.close()
	apply, err := postgres.OpenWriter(ctx, cfg.applyPool(), env.Registry)
	if err != nil {
		return err
	}
	defer apply.Close()
	keep, err := postgres.Open(ctx, cfg.Database.pool("maintainer", maintainerConns), env.Registry)
	if err != nil {
		return err
	}
	defer keep.Close()

	client, err := kafka.NewProducer(cfg.Kafka.client("tradestore-worker-checks"), env.Registry, env.Log)
	if err != nil {
		return err
	}
	defer client.Close()
	requests, err := cfg.RequestStore.open(ctx, keep, cfg.Worker.OutcomeRetention, env)
	if err != nil {
		return err
	}
	defer requests.close()
	promises := allPromises(cfg.Promise, cfg.RequestStore, cfg.Worker.OutcomeFlags)
	rules := stores{cfg.StoreFlags, cfg.Worker.OutcomeRetention, promises, attemptLimit, env.ConfirmFor}
	monitor, err := rules.monitor(env, client, keep, requests)
	if err != nil {
		return err
	}
	deps := cfg.deps(env, postgres.NewStore(apply, cfg.store()), requests)
	deps.Maintainer = postgres.NewMaintainer(keep)
	env.Stores.ofWorker(&deps)
	w, err := worker.New(cfg.Role(), deps)
	if err != nil {
		return err
	}
	// Probes and metrics are served from before the first try until after the drain, whatever ends the worker.
	probes, stopProbes := context.WithCancel(context.WithoutCancel(ctx))
	defer stopProbes()
	work, running := errgroup.WithContext(ctx)
	work.Go(func() error { return observe(probes, env.Listener, env.Registry, w.Ready) })
	work.Go(func() error {
		defer stopProbes()
		return delayExit(running, env.Log, env.ExitDelay, cfg.apply(running, env.Log, monitor, w))
	})
	return work.Wait()
}

// deps are what the worker works with, but for its maintainer.
func (c WorkerConfig) deps(env Env, store *postgres.Store, requests requestStore) worker.Deps {
	return worker.Deps{
		Store: store, Journal: store, Closer: store,
		Requests: requests.entries, OutcomesAtCommit: requests.journal,
		Shown: env.Link.notify, Registry: env.Registry, Log: env.Log, Tracer: env.tracer, Now: env.Now,
	}
}

// apply runs the worker as long as every check holds, until ctx ends (nil). When it returns, the worker has left its
// group.
func (c WorkerConfig) apply(ctx context.Context, log zerolog.Logger, monitor *checks.Monitor, w *worker.Worker) error {
	if err := await(ctx, log, monitor); err != nil {
		return unlessOver(ctx, err)
	}
	work, running := errgroup.WithContext(ctx)
	work.Go(func() error { return watch(running, log, c.Process.CheckInterval, monitor) })
	work.Go(func() error { return w.Run(running) })
	return work.Wait()
}

// maintainerConns serves one sweep and one search for orphans at the same time.
const maintainerConns = 2

// applyPool has one connection for each lane, one for the projector, and one for reads of positions while every lane is
// in a transaction.
func (c WorkerConfig) applyPool() postgres.Config {
	pool := c.Database.pool("apply", c.Worker.Lanes+2)
	pool.StatementTimeout = c.Worker.TransactionLimit
	return pool
}

func (c WorkerConfig) store() postgres.StoreConfig {
	return postgres.StoreConfig{Topic: c.Kafka.Topic, TxTimeout: c.Worker.TransactionLimit}
}
