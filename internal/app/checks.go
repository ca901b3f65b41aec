package app

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/internal/checks"
	"tradestore/kafka"
	"tradestore/postgres"
)

// stores says what must hold for the stores of a role (rules T1 to T7, T11, T12).
type stores struct {
	flags    StoreFlags
	outcomes time.Duration // how long outcomes are kept; 0 for a role that does not know
	promises []postgres.Promise
	limit    time.Duration // for one round of checks
	confirm  time.Duration // how long a check must fail that a failover can show for a moment (rule T8); 0: one look
}

// monitor makes the list of checks, which is empty where stores are replaced. The role works with this pool, client and
// request store, or with others of the same settings.
func (s stores) monitor(
	env Env, client *kgo.Client, pool *pgxpool.Pool, requests requestStore,
) (*checks.Monitor, error) {
	cfg := checks.Config{Registry: env.Registry, Log: env.Log, Limit: s.limit, ConfirmFor: s.confirm}
	if env.Stores != nil {
		return checks.NewMonitor(cfg)
	}
	production := s.flags.Profile.Profile != singleMachine
	topic := kafka.LogCheck{
		Topic: s.flags.Kafka.Topic, Partitions: s.flags.Kafka.Partitions,
		Production: production, OutcomeRetention: s.outcomes,
		Positions: postgres.NewStore(pool, postgres.StoreConfig{Topic: s.flags.Kafka.Topic}).Positions,
	}
	database := postgres.DatabaseCheck{Production: production}
	clocks, err := s.clocks(env, pool, requests)
	if err != nil {
		return nil, err
	}
	return checks.NewMonitor(cfg,
		func(ctx context.Context) []checks.Check { return topic.Checks(ctx, client) },
		func(ctx context.Context) []checks.Check { return database.Checks(ctx, pool) },
		requests.checks,
		func(ctx context.Context) []checks.Check { return compare(ctx, clocks) },
		func(ctx context.Context) []checks.Check { return postgres.PromiseChecks(ctx, pool, s.promises) })
}

// clocks returns the checks of the clock of this process against those of its stores (rule T11).
func (s stores) clocks(env Env, pool *pgxpool.Pool, requests requestStore) ([]*checks.Clock, error) {
	database, err := checks.NewClock(env.Registry, "PostgreSQL", env.Now,
		func(ctx context.Context) (time.Time, error) { return postgres.Clock(ctx, pool) })
	if err != nil || requests.clock == nil {
		return []*checks.Clock{database}, err
	}
	table, err := checks.NewClock(env.Registry, "DynamoDB", env.Now, requests.clock)
	return []*checks.Clock{database, table}, err
}

func compare(ctx context.Context, clocks []*checks.Clock) (list []checks.Check) {
	for _, clock := range clocks {
		list = append(list, clock.Check(ctx))
	}
	return list
}

// await waits until every check can be made and holds. Errors: one does not hold, or ctx ended.
func await(ctx context.Context, log zerolog.Logger, monitor *checks.Monitor) error {
	return logFatal(log, retry(ctx, log, "the stores", monitor.Err))
}

// watch repeats the checks while a role runs, until ctx ends (nil) or one of them fails. A check that cannot be made is
// counted and logged, and stops nothing: an outage heals (rule T8).
func watch(ctx context.Context, log zerolog.Logger, interval time.Duration, monitor *checks.Monitor) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := monitor.Err(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if checks.IsFatal(err) {
			return logFatal(log, err)
		}
		if err != nil {
			log.Warn().Err(err).Msg("cannot check the stores now")
		}
	}
}

// gate tells the server whether schema and topic are verified. POSTs are rejected until then: a 202 to the wrong topic
// would lose the trade. Reads and probes are answered meanwhile.
type gate struct{ open atomic.Bool }

var errUnverified = errors.New("schema and topic are not verified yet")

// keep opens the gate when every check passes, and shuts it when one fails later, which is an error. At the end of ctx
// the gate stays as it is: the drain finishes what was admitted.
func (g *gate) keep(ctx context.Context, log zerolog.Logger, interval time.Duration, monitor *checks.Monitor) error {
	if err := await(ctx, log, monitor); err != nil {
		return err
	}
	g.open.Store(true)
	log.Info().Msg("accepting trades")
	err := watch(ctx, log, interval, monitor)
	if err != nil {
		g.open.Store(false)
	}
	return err
}

// err returns an error while the gate is shut (server.Deps.Verified).
func (g *gate) err() error {
	if g.open.Load() {
		return nil
	}
	return errUnverified
}
