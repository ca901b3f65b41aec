package app

import (
	"context"
	"time"

	"github.com/rs/zerolog"

	"tradestore/internal/checks"
	"tradestore/internal/telemetry"
	"tradestore/kafka"
	"tradestore/postgres"
)

// Check runs once the checks that servers and workers run before they are ready and while they run (rules T1 to T7,
// T11, T12). It returns them in the order of the rules and changes nothing. Errors: a setting that cannot be used.
func Check(ctx context.Context, cfg CheckConfig) ([]checks.Check, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	env := Env{Log: zerolog.Nop(), Registry: telemetry.NewRegistry(), Now: time.Now} // the result says everything
	pool, err := postgres.Open(ctx, cfg.Database.pool("check", 2), env.Registry)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	client, err := kafka.NewProducer(cfg.Kafka.client("tradestore-check"), env.Registry, env.Log)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	log, err := cfg.RequestStore.open(ctx, pool, 0, env)
	if err != nil {
		return nil, err
	}
	defer log.close()
	promises := allPromises(cfg.Promise, cfg.RequestStore, cfg.OutcomeFlags)
	rules := stores{cfg.StoreFlags, cfg.OutcomeRetention, promises, cfg.Timeout, 0}
	monitor, err := rules.monitor(env, client, pool, log)
	if err != nil {
		return nil, err
	}
	return monitor.All(ctx), nil
}
