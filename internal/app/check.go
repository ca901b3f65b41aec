package app

import (
	"context"

	"github.com/rs/zerolog"

	"tradestore/internal/checks"
	"tradestore/internal/telemetry"
	"tradestore/kafka"
	"tradestore/postgres"
)

// Check makes the checks that servers and workers make before they are ready and while they run (rules T1 to T7), once,
// and returns them in the order of the rules. It changes nothing. Errors: a setting that can't be used.
func Check(ctx context.Context, cfg CheckConfig) ([]checks.Check, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	env := Env{Log: zerolog.Nop(), Registry: telemetry.NewRegistry()} // the list says all there is to say
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
	monitor, err := stores{cfg.Kafka, cfg.Profile, cfg.OutcomeRetention, cfg.Timeout}.monitor(env.Registry, client, pool, log)
	if err != nil {
		return nil, err
	}
	return monitor.All(ctx), nil
}
