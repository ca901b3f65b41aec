package cmd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"tradestore/internal/apiclient"
)

type tradesCommand struct {
	ID      string      `arg:"" name:"id" help:"Trade id."`
	Client  clientFlags `embed:""`
	History bool        `name:"history" env:"-" help:"Every decided submission in place of the stored versions, as far back as outcomes are kept."`
	JSON    bool        `name:"json" env:"-" group:"reporting" help:"The service's documents, as JSON, one for each page."`
}

// Help is shown below the summary of --help.
func (tradesCommand) Help() string {
	return `Shows every stored version of one trade.

` + exitHelp + `

Example:

    tradestore trades T1 --json`
}

// Validate lists every mistake in the settings, one per line, each with its flag; nil if there is none.
func (c *tradesCommand) Validate() error {
	err := c.Client.Validate()
	if c.ID == "" {
		err = errors.Join(err, errors.New("<id>: empty"))
	}
	return err
}

// run shows all stored versions of a trade, or its history.
func (c *tradesCommand) run(ctx context.Context, p *process) error {
	client := newClient(c.Client, 1)
	defer client.Close()
	ask, show := client.Trade, showVersions
	if c.History {
		ask, show = client.History, showHistory
	}
	for cursor := ""; ; {
		said, err := ask(ctx, c.ID, cursor, apiclient.MaxLimit)
		a, err := client.read(said, err)
		if cursor, err = c.show(p, a, err, show); err != nil || cursor == "" {
			return err
		}
	}
}

// show shows one page with the function given, and returns the cursor of the next. err is that of the call.
func (c *tradesCommand) show(
	p *process, a *answer, err error, show func(io.Writer, *apiclient.Page) error,
) (next string, _ error) {
	if err != nil {
		return "", c.Client.noAnswer(err)
	}
	if end := c.Client.refused(a); end != nil {
		if c.JSON && a.isJSON {
			end = errors.Join(writeJSON(p.stdout, json.RawMessage(a.Body)), end)
		}
		return "", end
	}
	var page apiclient.Page
	if err := a.Decode(&page); err != nil || page.Items == nil {
		return "", c.Client.noAnswer(apiclient.ErrUnexpected)
	}
	if c.JSON {
		return page.NextCursor, writeJSON(p.stdout, json.RawMessage(a.Body))
	}
	return page.NextCursor, show(p.stdout, &page)
}

func showVersions(out io.Writer, page *apiclient.Page) error {
	w := tabulate(out)
	fmt.Fprintln(w, "VERSION\tCOUNTERPARTY\tBOOK\tMATURITY\tCREATED\tEXPIRED")
	for _, v := range page.Items {
		expired := "no"
		if v.Expired {
			expired = "yes"
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n",
			v.Version, printable(v.CounterpartyID), printable(v.BookID), printable(v.MaturityDate), printable(v.CreatedDate),
			expired)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, p := range page.Pending {
		fmt.Fprintf(out, "version %d is PENDING since %s, request %s\n",
			p.Version, printable(p.AcceptedAt), printable(p.RequestID))
	}
	return nil
}

func showHistory(out io.Writer, page *apiclient.Page) error {
	w := tabulate(out)
	fmt.Fprintln(w, "DECIDED\tVERSION\tOUTCOME\tCOUNTERPARTY\tBOOK\tMATURITY\tREQUEST\tREPLACED")
	for _, v := range page.Items {
		outcome := cmp.Or(string(v.Reason), string(v.Status))
		row := []string{v.DecidedAt, strconv.Itoa(int(v.Version)), outcome, dash(v.CounterpartyID), dash(v.BookID),
			dash(v.MaturityDate), v.RequestID, dash(v.Replaced)}
		for i := range row {
			row[i] = printable(row[i])
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}
