package cmd

import (
	"context"
	"os"
)

type statusCommand struct {
	Config StatusConfig `embed:""`
}

// Help is shown below the summary of --help.
func (statusCommand) Help() string {
	return `Shows what the service knows about one request. With --watch it asks until the request is decided.

` + ExitHelp + `

Example:

    tradestore status 019e7c1a-5b7e-7c40-9f4e-3a1f0c2d4b6a --watch`
}

func (c *statusCommand) run(ctx context.Context, p *process) error {
	return Status(ctx, c.Config, p.env())
}

type tradesCommand struct {
	Config TradesConfig `embed:""`
}

// Help is shown below the summary of --help.
func (tradesCommand) Help() string {
	return `Shows every stored version of one trade.

` + ExitHelp + `

Example:

    tradestore trades T1 --json`
}

func (c *tradesCommand) run(ctx context.Context, p *process) error {
	return Trades(ctx, c.Config, p.env())
}

type submitCommand struct {
	Config SubmitConfig `embed:""`
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
	return Submit(ctx, c.Config, p.env())
}

type replayCommand struct {
	Config ReplayConfig `embed:""`
}

// Help is shown below the summary of --help.
func (replayCommand) Help() string {
	return `Lists dead letters: records that could not be stored, with their reason and age. With --submit the chosen ones go to the service once more, as new requests that name the old one. The old ones stay FAILED.

A second run submits nothing twice. A dead letter is refused if its value is no trade, or if it was a replay itself (--again). One whose version, or a higher one, is stored is left alone.

Exit codes: 0 done; 1 some refused or FAILED again; 2 a mistake in the flags; 3 unfinished: run it again.

Examples:

    tradestore replay --max-age 24h
    tradestore replay --reason "the value is out of range" --submit --rate 50`
}

func (c *replayCommand) run(ctx context.Context, p *process) error {
	return Replay(ctx, c.Config, p.env())
}

// env is what a command for people has of this process. See https://no-color.org.
func (p *process) env() Env {
	return Env{
		Stdin: os.Stdin, Stdout: p.stdout, Stderr: p.stderr,
		Colour: isTerminal(p.stdout) && os.Getenv("NO_COLOR") == "", Live: isTerminal(p.stderr),
	}
}
