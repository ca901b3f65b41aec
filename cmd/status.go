package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"tradestore/loadtest"
	"tradestore/trade"
)

const (
	pending = status(trade.Pending)
	success = status(trade.Success)
	failed  = status(trade.Failed)
)

// StatusConfig holds the settings of the status command.
type StatusConfig struct {
	ID     string       `arg:"" name:"id" help:"Request id, as the answer to a submission names it."`
	Client ClientConfig `embed:""`
	Watch  bool         `name:"watch" env:"-" help:"Ask until the request is decided, also while the service does not answer; Ctrl-C ends it."`
	JSON   bool         `name:"json" env:"-" group:"reporting" help:"The service's document, as JSON."`
}

// Validate lists every mistake in the settings, one per line, each with its flag; nil if there is none.
func (c *StatusConfig) Validate() error {
	err := c.Client.Validate()
	if _, bad := trade.ParseRequestID(c.ID); bad != nil {
		err = errors.Join(err, fmt.Errorf("<id>: %w", bad))
	}
	return err
}

// Status shows where a request stands. Its error is an Exit with the code that says the same.
func Status(ctx context.Context, cfg StatusConfig, env Env) error {
	client := newClient(cfg.Client, 1)
	defer client.close()
	var watched line
	if cfg.Watch {
		defer loadtest.NewProgress(env.Stderr, env.Live).Phase(watched.get)()
	}
	var pause backoff
	for {
		a, err := client.get(ctx, requestsPath+cfg.ID)
		switch {
		case err == nil && (!cfg.Watch || !a.later() && a.Status != pending):
			return env.showStatus(cfg, a)
		case errors.Is(err, errAnswer), err != nil && !cfg.Watch:
			return noAnswer(cfg.Client.URL, err)
		case err != nil:
			a = &answer{}
			watched.set("no answer, trying again: %v", err)
		case a.later():
			watched.set("no answer, trying again: %s", a.problem())
		default:
			pause = backoff{}
			watched.set("%s %s version %d", a.Status, a.TradeID, a.Version)
		}
		if !pause.sleep(ctx, a.wait) {
			return &Exit{exitUnknown, errors.New("ended before the request was decided")}
		}
	}
}

// line is what a progress shows, set by whoever knows.
type line struct{ text atomic.Pointer[string] }

func (l *line) set(format string, args ...any) {
	text := Clean(fmt.Sprintf(format, args...))
	l.text.Store(&text)
}

func (l *line) get() string {
	if text := l.text.Load(); text != nil {
		return *text
	}
	return "waiting for an answer"
}

// showStatus shows what the service says of a request and returns how the command ends.
func (e *Env) showStatus(cfg StatusConfig, a *answer) error {
	end := cfg.Client.refusal(a)
	if end == nil {
		end = verdict(a.Status)
	}
	switch {
	case cfg.JSON && a.body != nil:
		return errors.Join(writeJSON(e.Stdout, json.RawMessage(a.body)), end)
	case a.Status == "":
		return end
	}
	w := tabwriter.NewWriter(e.Stdout, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, value)
		}
	}
	row("request", Clean(a.RequestID))
	row("status", e.paintStatus(a.Status))
	row("reason", Clean(a.Reason))
	row("detail", Clean(a.Detail))
	row("trade", Clean(a.TradeID))
	row("version", strconv.FormatInt(a.Version, 10))
	row("accepted", Clean(a.AcceptedAt))
	row("decided", Clean(a.DecidedAt)+took(a.AcceptedAt, a.DecidedAt))
	return errors.Join(w.Flush(), end)
}

// verdict is how a command about one request ends.
func verdict(s status) error {
	switch s {
	case success:
		return nil
	case failed:
		return &Exit{Code: exitNo}
	case pending:
		return &Exit{Code: exitUnknown}
	default:
		return &Exit{exitUnknown, errAnswer}
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
