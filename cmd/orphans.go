package cmd

import (
	"context"
	"fmt"
	"time"

	"tradestore/internal/app"
)

type orphansCommand struct {
	Config app.OrphansConfig `embed:""`
}

// Help is shown below the summary of --help.
func (orphansCommand) Help() string {
	return `Lists requests that stay PENDING because nobody can tell any more whether their trade was delivered: the topic or the journal no longer reaches back to their acceptance, so the workers leave them alone. Without --close nothing is changed. With it they end FAILED with NOT_DELIVERED, once their partition is applied to its end. Compare them with the stored trades first.

Example:

    tradestore orphans --older-than 72h
    tradestore orphans --older-than 72h --close`
}

func (c *orphansCommand) run(ctx context.Context, p *process) error {
	orphans, err := app.Orphans(ctx, c.Config)
	w := tabulate(p.stdout)
	fmt.Fprintln(w, "REQUEST\tACCEPTED\tTRADE\tVERSION\tPARTITION")
	for _, o := range orphans {
		accepted := o.AcceptedAt.UTC().Format(time.RFC3339)
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\n", o.ID, accepted, o.TradeID, o.Version, o.Partition)
	}
	switch {
	case err != nil:
	case c.Config.Close:
		fmt.Fprintf(w, "%d requests ended\n", len(orphans))
	default:
		fmt.Fprintf(w, "%d requests; --close ends them\n", len(orphans))
	}
	if flushed := w.Flush(); err == nil && flushed != nil {
		return fmt.Errorf("cannot write the result: %w", flushed)
	}
	return err
}
