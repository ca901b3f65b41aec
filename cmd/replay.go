package cmd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"tradestore/internal/apiclient"
	"tradestore/loadtest"
	"tradestore/postgres"
	"tradestore/trade"
)

type replayCommand struct {
	DatabaseURL string        `name:"database-url" group:"stores" placeholder:"postgres://USER:PASSWORD@HOST:5432/NAME" help:"PostgreSQL that holds the dead letters; reads only, required. It holds a password: set the environment variable, because everyone on the machine can read flags with 'ps'."`
	Client      clientFlags   `embed:""`
	Reason      string        `name:"reason" env:"-" group:"choice" help:"Those with this reason, or with this text in their detail."`
	MinAge      time.Duration `name:"min-age" env:"-" group:"choice" help:"Dead letters that are at least this old."`
	MaxAge      time.Duration `name:"max-age" env:"-" group:"choice" help:"Dead letters that are at most this old."`
	Partition   []int32       `name:"partition" env:"-" group:"choice" help:"Those of these partitions, separated by commas."`
	RequestID   []string      `name:"request-id" env:"-" group:"choice" help:"Those of these requests, separated by commas."`
	All         bool          `name:"all" env:"-" group:"choice" help:"All dead letters. --submit needs this flag when no other filter is set."`
	Submit      bool          `name:"submit" env:"-" help:"Submit the chosen ones as new requests, through the service. Without it nothing is changed."`
	Again       bool          `name:"again" env:"-" help:"Also those that were replays themselves and failed again, or may have been."`
	Rate        float64       `name:"rate" env:"-" group:"tuning" default:"10" help:"Most submissions per second."`
	GiveUp      time.Duration `name:"give-up-after" env:"-" group:"tuning" default:"5m" help:"How long one is tried without a usable answer before the run ends unfinished."`
	JSON        bool          `name:"json" env:"-" group:"reporting" help:"A line of JSON for each dead letter, with its value in base64."`
}

// Help is shown below the summary of --help.
func (replayCommand) Help() string {
	return `Lists dead letters: records that could not be stored, with their reason and age. With --submit the chosen ones go to the service once more, as new requests that name the old one. The old ones stay FAILED.

A second run submits nothing twice. A dead letter is refused if its value is no trade, or if it was a replay itself (--again). One whose version, or a higher one, is stored is left alone.

Exit codes: 0 done; 1 some refused or FAILED again; 2 a mistake in the flags; 3 unfinished: run it again.

Examples:

    tradestore replay --max-age 24h
    tradestore replay --reason "the value is out of range" --submit --rate 50`
}

// Validate lists every mistake in the settings, one per line, each with its flag; nil if there is none.
func (c *replayCommand) Validate() error {
	lines := []error{c.Client.Validate()}
	wrong := func(format string, args ...any) { lines = append(lines, fmt.Errorf(format, args...)) }
	if c.DatabaseURL == "" {
		wrong("--database-url: required; set TRADESTORE_DATABASE_URL, " +
			"like postgres://user:password@127.0.0.1:5432/tradestore")
	}
	if c.MinAge < 0 || c.MaxAge < 0 || c.MaxAge > 0 && c.MaxAge <= c.MinAge {
		wrong("--max-age: %v is not longer than --min-age %v", c.MaxAge, c.MinAge)
	}
	for _, id := range c.RequestID {
		if _, err := trade.ParseRequestID(id); err != nil {
			wrong("--request-id: %w", err)
		}
	}
	chosen := c.Reason != "" || c.MinAge > 0 || c.MaxAge > 0 || len(c.Partition)+len(c.RequestID) > 0
	if c.Submit && !chosen && !c.All {
		wrong("--submit: choose some, or say --all")
	}
	if c.Rate < 0.01 || c.Rate > 1000 {
		wrong("--rate: %v is not between 0.01 and 1000", c.Rate)
	}
	if c.GiveUp <= 0 {
		wrong("--give-up-after: %v is not positive", c.GiveUp)
	}
	return errors.Join(lines...)
}

func (c *replayCommand) filter(now time.Time) postgres.DeadLetterFilter {
	f := postgres.DeadLetterFilter{Reason: c.Reason, Partitions: c.Partition}
	if c.MaxAge > 0 {
		f.From = now.Add(-c.MaxAge)
	}
	if c.MinAge > 0 {
		f.To = now.Add(-c.MinAge)
	}
	for _, text := range c.RequestID {
		id, _ := trade.ParseRequestID(text) // Validate has read it
		f.RequestIDs = append(f.RequestIDs, id)
	}
	return f
}

// errInterrupted ends the walk over dead letters between two of them.
var errInterrupted = errors.New("it was interrupted")

// replayer goes through dead letters, one after the other, in the order of the log.
type replayer struct {
	cfg    *replayCommand
	reader *postgres.Reader
	sender *sender
	report *replayReport
	now    time.Time
	next   time.Time // when the next one may be submitted
}

// run lists dead letters and, if told to, submits them again. A second run submits nothing twice: the idempotency key
// is made of the place in the log, and a trade whose version is stored is left alone. Its error may have an exit code.
func (c *replayCommand) run(ctx context.Context, p *process) error {
	cfg := postgres.Config{URL: c.DatabaseURL, MaxConns: 2, ApplicationName: "tradestore-replay"}
	pool, err := postgres.Open(ctx, cfg, prometheus.NewRegistry())
	if err != nil {
		return err
	}
	defer pool.Close()
	now := time.Now()
	r := &replayer{
		cfg: c, now: now, reader: postgres.NewReader(pool), sender: newSender(c.Client, 1, c.GiveUp, true),
		report: newReplayReport(p, c, now),
	}
	defer r.sender.client.Close()
	err = r.reader.DeadLetters(ctx, c.filter(now), func(d *postgres.DeadLetter) error { return r.one(ctx, d) })
	if ctx.Err() != nil {
		err = errInterrupted
	}
	return r.report.conclude(err)
}

// one shows a dead letter and submits it if it may be. Errors: the run can't go on.
func (r *replayer) one(ctx context.Context, d *postgres.DeadLetter) error {
	l := letterOf(d)
	t, err := r.judge(ctx, d, l)
	if err != nil {
		return err
	}
	if l.Plan == planSubmit && r.cfg.Submit {
		if !r.waitForTurn(ctx) {
			return errInterrupted
		}
		l.Result = &result{TradeID: t.TradeID, Version: int64(t.Version), Status: unknown}
		err = r.sender.post(ctx, l.Result, d.Value, apiclient.PostOptions{
			Key:      fmt.Sprintf("replay-%s-%d-%d", uuid.UUID(d.TopicID), d.Partition, d.Offset),
			ReplayOf: d.RequestID.String(),
		})
	}
	return errors.Join(r.report.add(l), err)
}

// judge decides what to do with a dead letter. It guards against loops, and against old versions over new ones.
func (r *replayer) judge(ctx context.Context, d *postgres.DeadLetter, l *letter) (trade.Trade, error) {
	refuse := func(format string, args ...any) { l.Plan, l.Why = planRefuse, fmt.Sprintf(format, args...) }
	t, invalid := trade.Decode(d.Value)
	switch {
	case d.Size > postgres.MaxDeadValue:
		refuse("its value of %d bytes is no trade", d.Size)
		return t, nil
	case invalid != nil:
		refuse("its value is no trade: %s", invalid.Code)
		return t, nil
	}
	l.TradeID, l.Version = t.TradeID, t.Version
	stored, err := r.reader.MaxVersions(ctx, []string{t.TradeID})
	if err != nil {
		return t, err
	}
	switch highest := stored[t.TradeID]; {
	case highest >= t.Version: // the same version may be a newer payload
		l.Plan, l.Why = planStored, fmt.Sprintf("version %d is stored", highest)
	case d.RequestID.IsZero():
		refuse("it names no request")
	case !d.Journaled && !r.cfg.Again:
		refuse("the journal has forgotten its request, which may have been a replay (--again)")
	case !d.ReplayOf.IsZero() && !r.cfg.Again:
		refuse("it is a replay that failed again (--again)")
	}
	return t, nil
}

// waitForTurn waits until the next submission may be sent, and returns false when ctx ends before.
func (r *replayer) waitForTurn(ctx context.Context) bool {
	loadtest.Sleep(ctx, time.Until(r.next))
	r.next = time.Now().Add(time.Duration(float64(time.Second) / r.cfg.Rate))
	return ctx.Err() == nil
}
