package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"text/tabwriter"
)

// TradesConfig holds the settings of the trades command.
type TradesConfig struct {
	ID     string       `arg:"" name:"id" help:"Trade id."`
	Client ClientConfig `embed:""`
	JSON   bool         `name:"json" env:"-" group:"reporting" help:"The service's document, as JSON."`
}

// Validate lists every mistake in the settings, one per line, each with its flag; nil if there is none.
func (c *TradesConfig) Validate() error {
	err := c.Client.Validate()
	if c.ID == "" {
		err = errors.Join(err, errors.New("<id>: empty"))
	}
	return err
}

// Trades shows all stored versions of a trade. Its error may be an Exit.
func Trades(ctx context.Context, cfg TradesConfig, env Env) error {
	client := newClient(cfg.Client, 1)
	defer client.close()
	a, err := client.get(ctx, tradesPath+"/"+url.PathEscape(cfg.ID))
	if err != nil {
		return noAnswer(cfg.Client.URL, err)
	}
	end := cfg.Client.refusal(a)
	if cfg.JSON && a.body != nil {
		return errors.Join(writeJSON(env.Stdout, json.RawMessage(a.body)), end)
	}
	if end != nil {
		return end
	}
	var shown struct {
		Items []struct {
			Version        int64  `json:"version"`
			CounterpartyID string `json:"counterparty_id"`
			BookID         string `json:"book_id"`
			MaturityDate   string `json:"maturity_date"`
			CreatedDate    string `json:"created_date"`
			Expired        bool   `json:"expired"`
		} `json:"items"`
	}
	if err := json.Unmarshal(a.body, &shown); err != nil || shown.Items == nil {
		return noAnswer(cfg.Client.URL, errAnswer)
	}
	w := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "VERSION\tCOUNTERPARTY\tBOOK\tMATURITY\tCREATED\tEXPIRED")
	for _, v := range shown.Items {
		expired := "no"
		if v.Expired {
			expired = "yes"
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n",
			v.Version, Clean(v.CounterpartyID), Clean(v.BookID), Clean(v.MaturityDate), Clean(v.CreatedDate), expired)
	}
	return w.Flush()
}
