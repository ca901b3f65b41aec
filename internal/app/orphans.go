package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"tradestore/internal/telemetry"
	"tradestore/kafka"
	"tradestore/postgres"
	"tradestore/trade"
)

// maxOrphans is how many requests one call of Orphans looks at.
const maxOrphans = 1000

// Orphans returns the oldest requests that stay PENDING and were accepted cfg.OlderThan ago or earlier, at most 1,000.
// With cfg.Close it also ends them as NOT_DELIVERED, although nobody can tell any more whether they were. It does so
// under the rules of the orphan reaper (R1, R3, R4), but for the one that log and journal must reach back to their
// acceptance. It is safe while servers and workers run, and may be repeated. Errors: a setting that can't be used, a
// store that does not answer, a partition that is not applied to its end.
func Orphans(ctx context.Context, cfg OrphansConfig) ([]trade.PendingRequest, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	env := Env{Log: zerolog.Nop(), Registry: telemetry.NewRegistry(), Now: time.Now}
	pool, err := postgres.OpenWriter(ctx, cfg.Database.pool("orphans", 2), env.Registry)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	requests, err := cfg.RequestStore.open(ctx, pool, cfg.OutcomeRetention, env)
	if err != nil {
		return nil, err
	}
	defer requests.close()
	pending, err := requests.pending(ctx, maxOrphans)
	if err != nil {
		return nil, err
	}
	before, old := env.Now().Add(-cfg.OlderThan), pending[:0]
	for _, p := range pending {
		if p.AcceptedAt.Before(before) {
			old = append(old, p)
		}
	}
	if !cfg.Close || len(old) == 0 {
		return old, nil
	}
	store := postgres.NewStore(pool, postgres.StoreConfig{Topic: cfg.Kafka.Topic, Now: env.Now})
	return old, cfg.endOrphans(ctx, env, store, requests, old)
}

// endOrphans ends requests, partition by partition. One that fails does not hold up the others.
func (c OrphansConfig) endOrphans(
	ctx context.Context, env Env, store *postgres.Store, requests requestStore, orphans []trade.PendingRequest,
) error {
	client, err := kafka.NewProducer(c.Kafka.client("tradestore-orphans"), env.Registry, env.Log)
	if err != nil {
		return err
	}
	defer client.Close()
	positions, err := store.Positions(ctx)
	if err != nil {
		return err
	}
	epochs := make(map[int32]int32, len(positions))
	byPartition := make(map[int32][]trade.PendingRequest)
	for _, p := range positions {
		epochs[p.Partition] = p.LeaderEpoch
	}
	for _, p := range orphans {
		byPartition[p.Partition] = append(byPartition[p.Partition], p)
	}
	ranges, err := kafka.ReadRanges(ctx, client, c.Kafka.Topic, epochs)
	if err != nil {
		return err
	}
	id, err := kafka.CheckTopic(ctx, client, c.Kafka.Topic, len(positions)) // after the read: these are its ends
	if err != nil {
		return err
	}
	var failed error
	for partition, list := range byPartition {
		logged, ok := ranges[partition]
		if !ok {
			failed = errors.Join(failed, fmt.Errorf("partition %d: its leader does not answer", partition))
			continue
		}
		outcomes, err := store.CloseUnproven(ctx, id, partition, logged.End, list)
		if err == nil {
			err = requests.entries.Project(ctx, outcomes)
		}
		failed = errors.Join(failed, err)
	}
	return failed
}
