package cmd

import (
	"context"

	"tradestore/internal/app"
)

type workerCommand struct {
	Config app.WorkerConfig `embed:""`
}

// Help is shown below the summary of --help.
func (workerCommand) Help() string {
	return `Any number of workers share the partitions of the topic. Where each one goes on is kept in PostgreSQL, with the trades.

Example:

    export TRADESTORE_DATABASE_URL=postgres://tradestore:secret@db:5432/tradestore
    tradestore worker --kafka-brokers kafka-1:9092,kafka-2:9092`
}

func (c *workerCommand) run(ctx context.Context, p *process) error {
	return p.serve("worker", c.Config.Log, func(env app.Env) error {
		return app.RunWorker(ctx, c.Config, env)
	})
}
