package role

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/kafka"
	"tradestore/postgres"
	"tradestore/server"
	"tradestore/topology"
	"tradestore/trade"
)

// stores says what has to hold of the stores of a role (rules T1 to T6).
type stores struct {
	kafka    KafkaFlags
	profile  ProfileFlags
	outcomes time.Duration // how long outcomes are kept; 0 for a role that does not know
}

// survey makes the list of checks. The pool and the client are those that the role works with, or configured like them.
func (s stores) survey(env Env, pool *pgxpool.Pool, client *kgo.Client) (*topology.Survey, error) {
	production := s.profile.Profile != "single"
	topic := kafka.Topology{
		Topic: s.kafka.Topic, Partitions: s.kafka.Partitions, Production: production, OutcomeRetention: s.outcomes,
		Positions: postgres.NewStore(pool, postgres.StoreConfig{Topic: s.kafka.Topic}).Positions,
	}
	database := postgres.Topology{Production: production}
	return topology.NewSurvey(env.Registry, attemptLimit,
		func(ctx context.Context) []topology.Check { return topic.Checks(ctx, client) },
		func(ctx context.Context) []topology.Check { return database.Checks(ctx, pool) })
}

// watch repeats the checks while a role runs, until ctx ends (nil) or one of them fails. What can't be told is counted,
// logged, and stops nothing: an outage heals (rule T8).
func watch(ctx context.Context, log zerolog.Logger, interval time.Duration, survey *topology.Survey) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := survey.Err(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if final(err) {
			return err
		}
		if err != nil {
			log.Warn().Err(err).Msg("cannot check the stores now")
		}
	}
}

// gate keeps the accept line shut until the topology has been verified: a 202 for a record in the wrong topic would be a
// promise that nobody keeps. Reads and probes are answered meanwhile.
type gate struct {
	server.RequestLog
	open atomic.Bool
}

var errUnverified = errors.New("schema and topic are not verified yet")

// Open refuses every request with no effect until the gate is open.
func (g *gate) Open(ctx context.Context, batch []*trade.Request) []error {
	if g.open.Load() {
		return g.RequestLog.Open(ctx, batch)
	}
	refused := make([]error, len(batch))
	for i := range refused {
		refused[i] = fmt.Errorf("%w: %w", trade.ErrNotOpened, errUnverified)
	}
	return refused
}

// check is what readiness asks.
func (g *gate) check(context.Context) error {
	if g.open.Load() {
		return nil
	}
	return errUnverified
}
