//go:build !production

package cmd

import (
	"context"

	"tradestore/internal/dev"
	"tradestore/internal/dev/embedded"
	"tradestore/internal/telemetry"
)

type developerCommands struct {
	Dev devCommand `cmd:"" help:"Run everything in this one process, with an embedded Kafka and PostgreSQL."`
}

// hasDev says whether this build can start the embedded stack.
const hasDev = true

type devCommand struct {
	Config dev.Config `embed:""`
}

// Help is shown below the summary of --help.
func (devCommand) Help() string {
	return `For one machine: nothing has to be installed, and what was stored is still there after a stop, a crash or kill -9.

Example:

    tradestore dev --listen 127.0.0.1:9000`
}

func (c *devCommand) run(ctx context.Context, p *process) error {
	log, err := telemetry.NewLogger(p.stderr, c.Config.Log.Level, c.Config.Log.Format)
	if err != nil {
		return err
	}
	return dev.Run(ctx, c.Config, p.stdout, log)
}

// maybeHelper takes over when the embedded database has started this binary again under another user.
func maybeHelper() { embedded.MaybeHelper() }
