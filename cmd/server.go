package cmd

import (
	"context"

	"tradestore/internal/app"
)

type serverCommand struct {
	Config app.ServerConfig `embed:""`
}

// Help is shown below the summary of --help.
func (serverCommand) Help() string {
	return `A trade that is answered 202 is in the log, on every replica in sync, and its request can be followed to its end.

Example:

    export TRADESTORE_DATABASE_URL=postgres://tradestore:secret@db:5432/tradestore
    tradestore server --kafka-brokers kafka-1:9092,kafka-2:9092`
}

func (c *serverCommand) run(ctx context.Context, p *process) error {
	return p.serve("server", c.Config.Log, func(env app.Env) error {
		return app.RunServer(ctx, c.Config, env)
	})
}
