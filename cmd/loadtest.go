package cmd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"tradestore/internal/telemetry"
	"tradestore/loadtest"
)

type loadtestCommand struct {
	Config loadtest.Config `embed:""`
}

// Help is shown below the summary of --help.
func (loadtestCommand) Help() string {
	return `Sends operations at the rate that is asked for, however slowly they are answered, and counts latency from when each one was due. Then waits until everything accepted is decided, and compares every request and every row with what was answered. Ends with 0 if all objectives hold; with 1 if one is missed, or if the load could not be made (VOID).

Ctrl-C ends the load early; what was accepted is still compared and reported. A second one ends the process at once, and leaves the data of its stack in the folder for temporary files.

The trades stay in the target: their ids begin with LT- and the name of the run. Do not aim it at a store of real trades.

Examples:

    tradestore loadtest
    tradestore loadtest --target http://127.0.0.1:8000 --rate 5000 --duration 5m --worker-url http://127.0.0.1:8001
    tradestore loadtest --stages 500/30s,500..4000/2m --mix new=1
    tradestore loadtest --find-capacity`
}

// Validate says what is wrong with the settings.
func (c *loadtestCommand) Validate() error {
	err := c.Config.Validate()
	if c.Config.Target == "" && !hasDev {
		err = errors.Join(err, errors.New("--target: required, because this build has no embedded stack to test"))
	}
	return err
}

func (c *loadtestCommand) run(ctx context.Context, p *process) error {
	env, err := c.env(p)
	if err != nil {
		return err
	}
	measure := loadtest.Run
	if c.Config.FindCapacity {
		measure = loadtest.FindCapacity
	}
	report, results, err := measure(ctx, c.Config, env)
	if err != nil {
		return err
	}
	if err := loadtest.Write(loadtest.Folder(c.Config.Out, report.Started), report, results); err != nil {
		return err
	}
	if err := c.show(p, report); err != nil {
		return fmt.Errorf("cannot show the report that is in %s: %w", report.Folder, err)
	}
	if report.Verdict != loadtest.Pass {
		return &exitError{code: exitFailed} // the report says why
	}
	return nil
}

func (c *loadtestCommand) show(p *process, report *loadtest.Report) error {
	if !c.Config.JSON {
		report.Print(p.stdout, p.colour)
		return nil
	}
	text, err := report.JSON()
	if err == nil {
		_, err = p.stdout.Write(text)
	}
	return err
}

// env is what a run has of this process.
func (c *loadtestCommand) env(p *process) (loadtest.Env, error) {
	build := telemetry.ReadBuild()
	env := loadtest.Env{
		Build:    loadtest.Build{Version: build.Version, Commit: build.Commit, Go: build.Go},
		Progress: p.stderr,
		Terminal: p.live,
	}
	for _, name := range slices.Sorted(maps.Keys(p.settings)) {
		if name != "help" {
			env.Settings = append(env.Settings, loadtest.Setting{Name: name, Value: p.settings[name]})
		}
	}
	if c.Config.Target != "" {
		return env, nil
	}
	self, err := os.Executable()
	if err != nil {
		return env, fmt.Errorf("cannot find this program, to start the embedded stack: %w; name a --target", err)
	}
	env.Self = self
	return env, nil
}
