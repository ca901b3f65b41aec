package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"tradestore/internal/apiclient"
	"tradestore/loadtest"
	"tradestore/trade"
)

type statusCommand struct {
	ID     string      `arg:"" name:"id" help:"Request id, as the answer to a submission names it."`
	Client clientFlags `embed:""`
	Watch  bool        `name:"watch" env:"-" help:"Ask until the request is decided, also while the service does not answer; Ctrl-C ends it."`
	JSON   bool        `name:"json" env:"-" group:"reporting" help:"The service's document, as JSON."`
}

// Help is shown below the summary of --help.
func (statusCommand) Help() string {
	return `Shows what the service knows about one request. With --watch it asks until the request is decided.

` + exitHelp + `

Example:

    tradestore status 019e7c1a-5b7e-7c40-9f4e-3a1f0c2d4b6a --watch`
}

// Validate lists every mistake in the settings, one per line, each with its flag; nil if there is none.
func (c *statusCommand) Validate() error {
	err := c.Client.Validate()
	if _, bad := trade.ParseRequestID(c.ID); bad != nil {
		err = errors.Join(err, fmt.Errorf("<id>: %w", bad))
	}
	return err
}

// run shows where a request stands. Its error has the exit code that says the same.
func (c *statusCommand) run(ctx context.Context, p *process) error {
	client := newClient(c.Client, 1)
	defer client.Close()
	var watched progressText
	if c.Watch {
		defer loadtest.NewProgress(p.stderr, p.live).Phase(watched.get)()
	}
	for pause := (backoff{}); ; {
		a, err := client.request(ctx, c.ID)
		wait := time.Duration(0)
		switch {
		case err == nil && (!c.Watch || !a.later() && a.State.Status != trade.Pending):
			return c.show(p, a)
		case errors.Is(err, apiclient.ErrUnexpected), err != nil && !c.Watch:
			return c.Client.noAnswer(err)
		case err != nil:
			watched.set("trying again: %v", err)
		case a.later():
			wait = a.RetryAfter(longRetry)
			watched.set("trying again: %s", a.refusal())
		default:
			pause = backoff{}
			watched.set("%s %s version %d", a.State.Status, a.TradeID, a.Version)
		}
		if !pause.sleep(ctx, wait) {
			return &exitError{exitUnknown, errors.New("ended before the request was decided")}
		}
	}
}

// progressText is the text that a progress shows. Any goroutine may set it.
type progressText struct{ text atomic.Pointer[string] }

func (l *progressText) set(format string, args ...any) {
	text := printable(fmt.Sprintf(format, args...))
	l.text.Store(&text)
}

func (l *progressText) get() string {
	if text := l.text.Load(); text != nil {
		return *text
	}
	return "waiting for an answer"
}

// show shows what the service says of a request and returns how the command ends.
func (c *statusCommand) show(p *process, a *answer) error {
	end := c.Client.refused(a)
	if end == nil {
		end = verdict(a.State.Status)
	}
	switch {
	case c.JSON && a.isJSON:
		return errors.Join(writeJSON(p.stdout, json.RawMessage(a.Body)), end)
	case a.State.Status == "":
		return end
	}
	w := tabulate(p.stdout)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, value)
		}
	}
	row("request", printable(a.RequestID))
	row("status", p.paintStatus(a.State.Status))
	row("reason", printable(string(a.Reason)))
	row("detail", printable(a.Detail))
	row("trade", printable(a.TradeID))
	row("version", strconv.Itoa(int(a.Version)))
	row("accepted", printable(a.AcceptedAt))
	row("decided", printable(a.DecidedAt)+took(a.AcceptedAt, a.DecidedAt))
	return errors.Join(w.Flush(), end)
}

// verdict is how a command about one request ends.
func verdict(s trade.Status) error {
	switch s {
	case trade.Success:
		return nil
	case trade.Failed:
		return &exitError{code: exitFailed}
	case trade.Pending:
		return &exitError{code: exitUnknown}
	default:
		return &exitError{exitUnknown, apiclient.ErrUnexpected}
	}
}

// took tells how long a decision took, if both times can be read.
func took(accepted, decided string) string {
	from, err1 := time.Parse(time.RFC3339Nano, accepted)
	to, err2 := time.Parse(time.RFC3339Nano, decided)
	if err1 != nil || err2 != nil {
		return ""
	}
	return fmt.Sprintf(" (after %v)", to.Sub(from).Round(time.Millisecond))
}
