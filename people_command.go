package main

import (
	"context"
	"os"

	"tradestore/cli"
)

type statusCommand struct {
	Config cli.StatusConfig `embed:""`
}

// Help is shown below the summary of --help.
func (statusCommand) Help() string {
	return `Shows what the service knows about one request. With --watch it asks until the request is decided.

` + cli.ExitHelp + `

Example:

    tradestore status 019e7c1a-5b7e-7c40-9f4e-3a1f0c2d4b6a --watch`
}

func (c *statusCommand) run(ctx context.Context, p *process) error {
	return cli.Status(ctx, c.Config, p.env())
}

type tradesCommand struct {
	Config cli.TradesConfig `embed:""`
}

// Help is shown below the summary of --help.
func (tradesCommand) Help() string {
	return `Shows every stored version of one trade.

` + cli.ExitHelp + `

Example:

    tradestore trades T1 --json`
}

func (c *tradesCommand) run(ctx context.Context, p *process) error {
	return cli.Trades(ctx, c.Config, p.env())
}

// env is what a command for people has of this process. See https://no-color.org.
func (p *process) env() cli.Env {
	return cli.Env{
		Stdin: os.Stdin, Stdout: p.stdout, Stderr: p.stderr,
		Colour: isTerminal(p.stdout) && os.Getenv("NO_COLOR") == "", Live: isTerminal(p.stderr),
	}
}
