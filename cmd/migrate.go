package cmd

import (
	"context"

	"tradestore/internal/app"
	"tradestore/internal/telemetry"
)

type migrateCommand struct {
	Config app.MigrateConfig `embed:""`
}

// Help is shown below the summary of --help.
func (migrateCommand) Help() string {
	return `Run it before the first start and before each new release. Running it again changes nothing, and two at once do no harm.

Example:

    export TRADESTORE_DATABASE_URL=postgres://tradestore:secret@db:5432/tradestore
    tradestore migrate --kafka-brokers kafka-1:9092,kafka-2:9092 --partitions 12

Some settings are the same for every process. The first run stores them, and each role compares its own with them. To change one, set it here, restart every process with the new value, and retire the old one:

    tradestore migrate --set orphan-after=90s
    tradestore migrate --retire orphan-after

A topic keeps its number of partitions. To move to a new one with more, stop the servers, let the workers finish, and run:

    tradestore migrate --kafka-brokers kafka-1:9092,kafka-2:9092 --new-generation --topic trades-inbound-2 --partitions 24

It refuses, says why, and leaves everything in use as it is while something is left to do. Whatever interrupts it, it can be run again. Then start workers and servers with the new --topic and --partitions.`
}

func (c *migrateCommand) run(ctx context.Context, p *process) error {
	log, err := telemetry.NewLogger(p.stderr, c.Config.Log.Level, c.Config.Log.Format)
	if err != nil {
		return err
	}
	return app.Migrate(ctx, c.Config, log)
}
