package app

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"tradestore/dynamo"
	"tradestore/internal/checks"
	"tradestore/postgres"
	"tradestore/server"
	"tradestore/trade"
	"tradestore/worker"
)

// The kinds of request store, as --request-store names them.
const (
	onPostgres = "postgres"
	onDynamoDB = "dynamodb"
)

// requestStore is the request store that the settings choose.
type requestStore struct {
	entries entries
	probe   func(context.Context) error // returns nil if the store answers now; nil: it is in PostgreSQL
	checks  checks.Part                 // the rules for this store (rule T7)
	clock   storeClock                  // nil: the store has no clock of its own
	create  func(context.Context) error // makes what it needs beyond the schema; nil: nothing
	journal bool                        // clients read outcomes from the journal
	close   func()

	// pending returns up to limit requests that have not ended, the oldest first; none when there are none.
	pending func(ctx context.Context, limit int) ([]trade.PendingRequest, error)
}

type storeClock func(context.Context) (time.Time, error)

// fewPending is how many requests are looked at to say that there are some.
const fewPending = 100

// entries is the request store as both roles see it.
type entries interface {
	server.RequestStore
	server.KeyedStore
	worker.RequestStore
}

// open opens the request store of a role and asks it nothing yet. The kind in PostgreSQL uses the pool. DynamoDB
// deletes an ended request after life.
func (f RequestStoreFlags) open(
	ctx context.Context, pool *pgxpool.Pool, life time.Duration, env Env,
) (requestStore, error) {
	if f.Kind != onDynamoDB {
		log := postgres.NewRequestStore(pool)
		return requestStore{
			entries: log,
			journal: true,
			checks:  func(context.Context) []checks.Check { return nil }, // a part of the schema
			close:   func() {},
			pending: log.Undecided,
		}, nil
	}
	cfg := f.config()
	cfg.Life, cfg.Now = life, env.Now
	log, err := dynamo.Open(ctx, cfg, env.Registry, env.Log)
	if err != nil {
		return requestStore{}, err
	}
	return requestStore{
		entries: log, probe: log.Ping, checks: log.Checks, clock: log.Clock, create: log.CreateTable, close: log.Close,
		pending: log.Undecided,
	}, nil
}

func (f RequestStoreFlags) config() dynamo.Config {
	return dynamo.Config{Table: f.Table, Endpoint: f.Endpoint}
}
