package cmd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"text/tabwriter"
)

// TradesConfig holds the settings of the trades command.
type TradesConfig struct {
	ID      string       `arg:"" name:"id" help:"Trade id."`
	Client  ClientConfig `embed:""`
	History bool         `name:"history" env:"-" help:"Every decided submission in place of the stored versions, as far back as outcomes are kept."`
	JSON    bool         `name:"json" env:"-" group:"reporting" help:"The service's document, as JSON; of a long history, one for each page."`
}

// Validate lists every mistake in the settings, one per line, each with its flag; nil if there is none.
func (c *TradesConfig) Validate() error {
	err := c.Client.Validate()
	if c.ID == "" {
		err = errors.Join(err, errors.New("<id>: empty"))
	}
	return err
}

// shownTrade is what the service shows of a trade: its versions, or a page of its history.
type shownTrade struct {
	Items []struct {
		document
		CounterpartyID string `json:"counterparty_id"`
		BookID         string `json:"book_id"`
		MaturityDate   string `json:"maturity_date"`
		CreatedDate    string `json:"created_date"`
		Expired        bool   `json:"expired"`
		Replaced       string `json:"replaced"`
	} `json:"items"`
	Pending    []document `json:"pending"`
	NextCursor string     `json:"next_cursor"`
}

// Trades shows all stored versions of a trade, or its history. Its error may be an Exit.
func Trades(ctx context.Context, cfg TradesConfig, env Env) error {
	client := newClient(cfg.Client, 1)
	defer client.close()
	path, show := tradesPath+"/"+url.PathEscape(cfg.ID), env.showVersions
	if cfg.History {
		path, show = path+"/history?limit=1000", env.showHistory
	}
	for at := ""; ; {
		a, err := client.get(ctx, path+at)
		if err != nil {
			return noAnswer(cfg.Client.URL, err)
		}
		if end := cfg.Client.refusal(a); end != nil {
			if cfg.JSON && a.body != nil {
				end = errors.Join(writeJSON(env.Stdout, json.RawMessage(a.body)), end)
			}
			return end
		}
		var shown shownTrade
		if err := json.Unmarshal(a.body, &shown); err != nil || shown.Items == nil {
			return noAnswer(cfg.Client.URL, errAnswer)
		}
		if cfg.JSON {
			err = writeJSON(env.Stdout, json.RawMessage(a.body))
		} else {
			err = show(&shown)
		}
		if err != nil || shown.NextCursor == "" || !cfg.History {
			return err
		}
		at = "&cursor=" + url.QueryEscape(shown.NextCursor)
	}
}

func (e *Env) showVersions(shown *shownTrade) error {
	w := tabwriter.NewWriter(e.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "VERSION\tCOUNTERPARTY\tBOOK\tMATURITY\tCREATED\tEXPIRED")
	for _, v := range shown.Items {
		expired := "no"
		if v.Expired {
			expired = "yes"
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n",
			v.Version, Clean(v.CounterpartyID), Clean(v.BookID), Clean(v.MaturityDate), Clean(v.CreatedDate), expired)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, p := range shown.Pending {
		fmt.Fprintf(e.Stdout, "version %d is PENDING since %s, request %s\n", p.Version, Clean(p.AcceptedAt), Clean(p.RequestID))
	}
	return nil
}

func (e *Env) showHistory(shown *shownTrade) error {
	w := tabwriter.NewWriter(e.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DECIDED\tVERSION\tOUTCOME\tCOUNTERPARTY\tBOOK\tMATURITY\tREQUEST\tREPLACED")
	for _, v := range shown.Items {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", Clean(v.DecidedAt), v.Version, Clean(cmp.Or(v.Reason, string(v.Status))),
			Clean(dash(v.CounterpartyID)), Clean(dash(v.BookID)), Clean(dash(v.MaturityDate)), Clean(v.RequestID), Clean(dash(v.Replaced)))
	}
	return w.Flush()
}
