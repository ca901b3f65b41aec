package cmd

import (
	"context"
	"fmt"
	"io"
	"slices"

	"tradestore/internal/app"
	"tradestore/internal/checks"
)

type checkCommand struct {
	Config app.CheckConfig `embed:""`
	JSON   bool            `name:"json" env:"-" help:"As a JSON array."`
}

// Help is shown below the summary of --help.
func (checkCommand) Help() string {
	return `Servers and workers make the same checks before they are ready and while they run, and stop when one fails. This command makes them once and changes nothing. It ends with 0 if each one could be made and none failed, else with 1. WARN is what should be otherwise and stops nothing. A failover may be under way when a server that takes no writes is seen: servers and workers stop only when they see it for two minutes.

Example:

    export TRADESTORE_DATABASE_URL=postgres://tradestore:secret@db:5432/tradestore
    tradestore check --kafka-brokers kafka-1:9092,kafka-2:9092`
}

func (c *checkCommand) run(ctx context.Context, p *process) error {
	list, err := app.Check(ctx, c.Config)
	if err != nil {
		return err
	}
	if c.JSON {
		err = writeJSON(p.stdout, list)
	} else {
		err = showChecks(p.stdout, list)
	}
	if err != nil {
		return fmt.Errorf("cannot write the result: %w", err)
	}
	failed, unknown := 0, 0
	for _, check := range list {
		switch check.Status {
		case checks.Failed:
			failed++
		case checks.Unknown:
			unknown++
		case checks.OK, checks.Unconfirmed, checks.Warning, checks.Skipped: // one look confirms nothing
		}
	}
	if failed+unknown > 0 {
		return fmt.Errorf("of %d checks %d failed and %d could not be made", len(list), failed, unknown)
	}
	return nil
}

// showChecks writes one line for each check. A store that is down is the reason of many, so reasons come once, below.
func showChecks(out io.Writer, list []checks.Check) error {
	w := tabulate(out)
	fmt.Fprintln(w, "RULE\tCHECK\tEXPECTED\tSEEN\tRESULT")
	var reasons []string
	for _, c := range list {
		seen, result := oneLine.Replace(c.Seen), string(c.Status)
		switch c.Status {
		case checks.Failed:
			result = "FAIL"
		case checks.Unknown:
			if !slices.Contains(reasons, seen) {
				reasons = append(reasons, seen)
			}
			seen = fmt.Sprintf("? (%d)", slices.Index(reasons, seen)+1)
		case checks.Warning:
			result = "WARN"
		case checks.OK, checks.Unconfirmed, checks.Skipped:
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", c.ID, c.Name, c.Expected, seen, result)
	}
	for i, reason := range reasons {
		fmt.Fprintf(w, "\n(%d) %s\n", i+1, reason)
	}
	return w.Flush()
}
