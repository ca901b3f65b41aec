package role

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"tradestore/dynamo"
	"tradestore/postgres"
	"tradestore/server"
	"tradestore/topology"
	"tradestore/worker"
)

// The kinds of request log, as --request-log names them.
const (
	onPostgres = "postgres"
	onDynamoDB = "dynamodb"
)

// requestLog is the request log that the settings choose.
type requestLog struct {
	entries entries
	probe   func(context.Context) error // whether it answers now
	checks  topology.Part               // whether it is what this build relies on (rule T7)
	close   func()
}

// entries is the request log as both roles see it.
type entries interface {
	server.RequestLog
	server.KeyedLog
	worker.RequestLog
}

// open opens the request log of a role, which asks nothing of it yet. The pool serves the kind that is in PostgreSQL; life
// is how long an ended request can be asked for, where that is written with its end.
func (f RequestLogFlags) open(ctx context.Context, pool *pgxpool.Pool, life time.Duration, env Env) (requestLog, error) {
	if f.Kind != onDynamoDB {
		return requestLog{
			entries: postgres.NewRequestLog(pool),
			probe:   pool.Ping,
			checks:  func(context.Context) []topology.Check { return nil }, // a part of the schema
			close:   func() {},
		}, nil
	}
	cfg := f.config()
	cfg.Life, cfg.Now = life, env.Now
	log, err := dynamo.Open(ctx, cfg, env.Registry, env.Log)
	if err != nil {
		return requestLog{}, err
	}
	return requestLog{entries: log, probe: log.Ping, checks: log.Checks, close: log.Close}, nil
}

func (f RequestLogFlags) config() dynamo.Config {
	return dynamo.Config{Table: f.Table, Endpoint: f.Endpoint, Conns: f.Conns}
}
