package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/kafka"
	"tradestore/postgres"
	"tradestore/trade"
)

// Migrate makes or updates the schema, the table of a request store on DynamoDB, the topic and its position rows. It
// waits for each store to answer, up to cfg.Wait, and may be repeated and run twice at once. A crash in between leaves
// a part of the work done; the next run does the rest. A topic that is not the one known to the database is an error,
// unless cfg.NewGeneration asks to move to it (rule T10).
func Migrate(ctx context.Context, cfg MigrateConfig, log zerolog.Logger) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	cfg, set, err := cfg.withSet()
	if err != nil {
		return err
	}
	env := Env{Log: log, Registry: prometheus.NewRegistry()} // a command that ends shows no metrics
	pool, err := postgres.Open(ctx, cfg.Database.pool("migrate", 2), env.Registry)
	if err != nil {
		return err
	}
	defer pool.Close()
	client, err := kafka.NewProducer(cfg.Kafka.client("tradestore-migrate"), env.Registry, log)
	if err != nil {
		return err
	}
	defer client.Close()

	if err := cfg.await(ctx, log, "PostgreSQL", pool.Ping); err != nil {
		return err
	}
	if err := postgres.Migrate(log.WithContext(ctx), cfg.Database.URL); err != nil {
		return err
	}
	log.Info().Msg("schema is up to date")
	var topics *postgres.Topics
	err = cfg.await(ctx, log, "its turn", func(ctx context.Context) (err error) {
		topics, err = postgres.LockTopics(ctx, pool)
		return err
	})
	if err != nil {
		return err
	}
	defer topics.Release()
	promises, err := (&promiseKeeper{cfg: cfg, log: log, topics: topics}).keep(ctx, set)
	if err != nil {
		return err
	}
	requests, err := cfg.makeRequestStore(ctx, pool, env)
	if err != nil {
		return err
	}
	defer requests.close()
	ping := func(ctx context.Context) error { return kafka.Ping(ctx, client) }
	if err := cfg.await(ctx, log, "Kafka", ping); err != nil {
		return err
	}
	if cfg.NewGeneration {
		m := move{cfg: cfg, log: log, client: client, topics: topics, requests: requests,
			deadline: longest(promises[acceptDeadline])}
		return m.run(ctx)
	}
	return cfg.makeTopic(ctx, log, client, topics)
}

// makeTopic makes the topic and its positions, and opens it again after a move that did not come to its end.
func (c MigrateConfig) makeTopic(
	ctx context.Context, log zerolog.Logger, client *kgo.Client, topics *postgres.Topics,
) error {
	id, err := c.createTopic(ctx)
	if err != nil {
		return err
	}
	if err := topics.Add(ctx, c.Kafka.Topic, id, c.Kafka.Partitions); err != nil {
		return err
	}
	wasClosed, err := kafka.OpenTopic(ctx, client, c.Kafka.Topic)
	if err != nil {
		return err
	}
	if wasClosed {
		log.Warn().Str("topic", c.Kafka.Topic).
			Msg("the topic was closed by a move to another one that did not come to its end; it takes records again")
	}
	log.Info().Str("topic", c.Kafka.Topic).Int("partitions", c.Kafka.Partitions).Msg("topic and its positions are there")
	return nil
}

func (c MigrateConfig) createTopic(ctx context.Context) (trade.TopicID, error) {
	id, err := kafka.CreateTopic(ctx, c.Kafka.client("tradestore-migrate-topic"), c.topic())
	if errors.Is(err, kerr.InvalidReplicationFactor) {
		err = fmt.Errorf("%w; one machine takes --profile single", err)
	}
	return id, err
}

// makeRequestStore opens the request store and makes what it needs beyond the schema. The caller closes it.
func (c MigrateConfig) makeRequestStore(ctx context.Context, pool *pgxpool.Pool, env Env) (requestStore, error) {
	requests, err := c.RequestStore.open(ctx, pool, 0, env)
	if err != nil || requests.create == nil {
		return requests, err
	}
	if err := c.await(ctx, env.Log, "DynamoDB", requests.create); err != nil {
		requests.close()
		return requestStore{}, err
	}
	env.Log.Info().Str("table", c.RequestStore.Table).Msg("table of the request store is there")
	return requests, nil
}

func (c MigrateConfig) await(
	ctx context.Context, log zerolog.Logger, what string, try func(context.Context) error,
) error {
	ctx, cancel := context.WithTimeout(ctx, c.Wait)
	defer cancel()
	if err := retry(ctx, log, what, try); err != nil {
		return fmt.Errorf("%w (--wait %v)", err, c.Wait)
	}
	return nil
}

// topic returns the topic to make, with the replicas that the profile demands.
func (c MigrateConfig) topic() kafka.TopicSpec {
	spec := kafka.TopicSpec{Partitions: c.Kafka.Partitions, Replication: 3, MinISR: 2, Retention: c.TopicRetention}
	if c.Profile.Profile == singleMachine {
		spec.Replication, spec.MinISR = 1, 1
	}
	return spec
}
