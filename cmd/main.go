// Package cmd is the command line of tradestore: it reads flags and environment, runs the subcommand and ends with its
// exit code.
package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/mattn/go-isatty"

	"tradestore/internal/app"
	"tradestore/internal/telemetry"
)

// Exit codes, as the help tells them.
const (
	exitDone    = 0 // stopped after a clean drain, or done
	exitFailed  = 1 // of a role: it failed. Of a client: the answer is no, the trade is refused or FAILED
	exitUsage   = 2 // a mistake in the command line or the environment, or a file that cannot be used
	exitUnknown = 3 // not known yet: PENDING, unfinished, or the service does not answer. Asking again may help
	exitMissing = 4 // the service knows no such request or trade
)

// exitHelp explains the exit codes that clients of the service have in common.
const exitHelp = `Exit codes: 0 yes; 1 no: refused or FAILED; 2 a mistake in the flags; 3 not known yet: PENDING, unfinished, or no answer; 4 the service knows no such thing.`

// exitError ends the process with the code.
type exitError struct {
	code int
	err  error // nil: the user has seen why
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return printable(e.err.Error())
}

func (e *exitError) Unwrap() error { return e.err }

// Command is what every subcommand can do once its settings are read and found good.
type Command interface {
	run(ctx context.Context, p *process) error
}

// process is what a command has of the process it runs in.
type process struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	colour         bool              // stdout shows colours
	live           bool              // stderr is a terminal: progress may draw over itself
	settings       map[string]string // name and value of every flag of the command, secrets masked
}

// Main is the program.
func Main() {
	maybeHelper()
	p := &process{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		colour: isTerminal(os.Stdout) && os.Getenv("NO_COLOR") == "", // see https://no-color.org
		live:   isTerminal(os.Stderr),
	}
	os.Exit(run(os.Args[1:], p))
}

func isTerminal(f *os.File) bool { return isatty.IsTerminal(f.Fd()) }

// run runs the command that the arguments choose and returns the exit code.
func run(args []string, p *process) int {
	selected, settings, err := Parse(args, p.stdout, p.stderr)
	if errors.Is(err, errHelpShown) {
		return exitDone
	}
	if err != nil {
		fmt.Fprintln(p.stderr, err)
		return exitUsage
	}
	p.settings = settings
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // from the first signal on the second one ends the process at once
	return p.exit(selected.run(ctx, p))
}

// exit shows the error of a command, unless the user has seen it, and returns the exit code.
func (p *process) exit(err error) int {
	if err == nil {
		return exitDone
	}
	end := &exitError{exitFailed, err}
	errors.As(err, &end)
	if end.err != nil {
		fmt.Fprintf(p.stderr, "tradestore: %s\n", oneLine.Replace(err.Error()))
	}
	return end.code
}

// oneLine joins the lines of an error from below: drivers list each address they tried on a line of its own.
var oneLine = strings.NewReplacer("\n\t", " ", "\n", "; ")

// serve runs a role that stays: from the line that says what starts to the one that says how it ended.
func (p *process) serve(name string, f app.LogFlags, start func(app.Env) error) error {
	log, err := telemetry.NewLogger(p.stderr, f.Level, f.Format)
	if err != nil {
		return err
	}
	log = log.With().Str("role", name).Logger()
	build := telemetry.ReadBuild()
	starting := log.Info().Str("version", build.Version).Str("commit", build.Commit).Str("go", build.Go).
		Int("gomaxprocs", runtime.GOMAXPROCS(0))
	if limit := debug.SetMemoryLimit(-1); limit != math.MaxInt64 {
		starting = starting.Int64("gomemlimit", limit) // in bytes
	}
	starting.Any("settings", p.settings).Msg("starting")
	if err := start(app.Env{Log: log, ExitDelay: app.ExitDelay}); err != nil {
		log.Error().Err(err).Msg("stopped by a failure")
		return &exitError{code: exitFailed}
	}
	log.Info().Msg("stopped after a clean drain")
	return nil
}
