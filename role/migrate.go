package role

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"

	"tradestore/dynamo"
	"tradestore/kafka"
	"tradestore/postgres"
)

// Migrate makes or updates the schema, the table of a request log on DynamoDB, the topic and its position rows. It waits
// for each store to answer, up to cfg.Wait, and may be repeated and run twice at once. A crash in between leaves a part of
// the work done; the next run does the rest. A topic that is not the one known to the database is an error.
func Migrate(ctx context.Context, cfg MigrateConfig, log zerolog.Logger) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	unshown := prometheus.NewRegistry() // a command that ends shows no metrics
	pool, err := postgres.Open(ctx, cfg.Database.pool("migrate", 2), unshown)
	if err != nil {
		return err
	}
	defer pool.Close()
	client, err := kafka.NewProducer(cfg.Kafka.client("tradestore-migrate"), unshown, log)
	if err != nil {
		return err
	}
	defer client.Close()

	if err := cfg.await(ctx, log, "PostgreSQL", pool.Ping); err != nil {
		return err
	}
	if err := postgres.Migrate(ctx, cfg.Database.URL); err != nil {
		return err
	}
	log.Info().Msg("schema is up to date")
	if err := cfg.makeRequestLog(ctx, log); err != nil {
		return err
	}
	if err := cfg.await(ctx, log, "Kafka", func(ctx context.Context) error { return kafka.Ping(ctx, client) }); err != nil {
		return err
	}
	id, err := kafka.CreateTopic(ctx, cfg.Kafka.client("tradestore-migrate-topic"), cfg.topic())
	if errors.Is(err, kerr.InvalidReplicationFactor) {
		err = fmt.Errorf("%w; one machine takes --profile single", err)
	}
	if err != nil {
		return err
	}
	if err := postgres.AddTopic(ctx, pool, cfg.Kafka.Topic, id, cfg.Kafka.Partitions); err != nil {
		return err
	}
	log.Info().Str("topic", cfg.Kafka.Topic).Int("partitions", cfg.Kafka.Partitions).Msg("topic and its positions are there")
	return nil
}

// makeRequestLog makes what the request log needs beyond the schema.
func (c MigrateConfig) makeRequestLog(ctx context.Context, log zerolog.Logger) error {
	if c.RequestLog.Kind != onDynamoDB {
		return nil
	}
	requests, err := dynamo.Open(ctx, c.RequestLog.config(), prometheus.NewRegistry(), log)
	if err != nil {
		return err
	}
	defer requests.Close()
	if err := c.await(ctx, log, "DynamoDB", requests.CreateTable); err != nil {
		return err
	}
	log.Info().Str("table", c.RequestLog.Table).Msg("table of the request log is there")
	return nil
}

func (c MigrateConfig) await(ctx context.Context, log zerolog.Logger, what string, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.Wait)
	defer cancel()
	if err := retry(ctx, log, what, try); err != nil {
		return fmt.Errorf("%w (--wait %v)", err, c.Wait)
	}
	return nil
}

// topic spreads each record over as many brokers as the profile promises.
func (c MigrateConfig) topic() kafka.TopicSpec {
	spec := kafka.TopicSpec{Partitions: c.Kafka.Partitions, Replication: 3, MinISR: 2, Retention: c.TopicRetention}
	if c.Profile.Profile == "single" {
		spec.Replication, spec.MinISR = 1, 1
	}
	return spec
}
