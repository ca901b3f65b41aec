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

type submitCommand struct {
	Config cli.SubmitConfig `embed:""`
}

// Help is shown below the summary of --help.
func (submitCommand) Help() string {
	return `Reads trades from a file and posts each one. What can't be read is a result of its own, what the service refuses too. A trade is tried again when the service is overloaded or does not answer, always under the same idempotency key: it is never stored twice. Those of one trade id are sent in the order of the file.

What became of each line is in the results file. Ctrl-C finishes the answers under way and says how to go on; a second one ends at once, and --resume goes on after that as well.

Exit codes: 0 all accepted (with --wait: stored); 1 some refused, FAILED or unreadable; 2 a mistake in the flags or a file that can't be used, nothing was sent; 3 unfinished: interrupted, or the service does not answer.

Examples:

    tradestore submit trades.csv
    tradestore submit trades.ndjson --wait --connections 64
    tradestore submit trades.csv --resume
    generate-trades | tradestore submit - --format ndjson --results today.ndjson`
}

func (c *submitCommand) run(ctx context.Context, p *process) error {
	return cli.Submit(ctx, c.Config, p.env())
}

// env is what a command for people has of this process. See https://no-color.org.
func (p *process) env() cli.Env {
	return cli.Env{
		Stdin: os.Stdin, Stdout: p.stdout, Stderr: p.stderr,
		Colour: isTerminal(p.stdout) && os.Getenv("NO_COLOR") == "", Live: isTerminal(p.stderr),
	}
}
