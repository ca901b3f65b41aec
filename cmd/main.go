// Command tradestore accepts trades over HTTP, keeps them in Kafka until they are stored, and stores them in
// PostgreSQL. Each subcommand is one role; this package reads flags and environment, runs the role and ends with its
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

	"tradestore/internal/app"
	"tradestore/internal/telemetry"
)

// Exit codes, as the help tells them.
const (
	exitDone   = 0 // stopped after a clean drain, or done
	exitFailed = 1 // could not start, could not go on, or did not drain in time
	exitUsage  = 2 // a mistake in the command line or the environment
)

// Command is what every subcommand can do once its settings are read and found good.
type Command interface {
	run(ctx context.Context, p *process) error
}

// process is what a command has of the process it runs in.
type process struct {
	stdout, stderr io.Writer
	settings       map[string]string // name and value of every flag of the command, secrets masked
}

// Main is the program.
func Main() {
	maybeHelper()
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	selected, settings, err := Parse(args, stdout, stderr)
	if errors.Is(err, errHelpShown) {
		return exitDone
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // from the first signal on the second one ends the process at once
	err = selected.run(ctx, &process{stdout, stderr, settings})
	var exit *Exit
	told := errors.As(err, &exit) && exit.Err == nil || errors.Is(err, errLogged)
	if err != nil && !told {
		fmt.Fprintf(stderr, "tradestore: %s\n", oneLine.Replace(err.Error()))
	}
	switch {
	case exit != nil:
		return exit.Code
	case err != nil:
		return exitFailed
	}
	return exitDone
}

// oneLine joins the lines of an error from below: drivers list each address they tried on a line of its own.
var oneLine = strings.NewReplacer("\n\t", " ", "\n", "; ")

// errLogged marks an error that its reader has seen in the log already.
var errLogged = errors.New("logged")

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
		return errors.Join(errLogged, err)
	}
	log.Info().Msg("stopped after a clean drain")
	return nil
}
