package cmd

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"tradestore/loadtest"
)

// SubmitConfig holds the settings of the submit command.
type SubmitConfig struct {
	File        string        `arg:"" name:"file" help:"File of trades, or - for standard input."`
	Client      ClientConfig  `embed:""`
	Format      string        `name:"format" env:"-" enum:"auto,json,ndjson,csv" default:"auto" help:"Of the file: json, ndjson, csv with a header, or auto, which tells by the ending of the name or else by the first line."`
	Connections int           `name:"connections" env:"-" group:"tuning" default:"16" help:"Trades under way at once. Those of one trade id go one after the other."`
	Wait        bool          `name:"wait" env:"-" help:"Follow each trade to its outcome before the next one of its trade id is sent."`
	GiveUp      time.Duration `name:"give-up-after" env:"-" group:"tuning" default:"5m" help:"How long one trade is tried without a usable answer before the run ends unfinished."`
	Results     string        `name:"results" env:"-" group:"reporting" placeholder:"FILE.results.ndjson" help:"File for what became of each line. Standard input has none unless it is named."`
	Resume      bool          `name:"resume" env:"-" help:"Go on with the run whose results file is there: lines that have their answer are skipped, the others repeated under the same keys."`
	JSON        bool          `name:"json" env:"-" group:"reporting" help:"The summary, as JSON."`
}

const mostConnections = 1024

// Validate lists every mistake in the settings, one per line, each with its flag; nil if there is none.
func (c *SubmitConfig) Validate() error {
	lines := []error{c.Client.Validate()}
	if c.Connections < 1 || c.Connections > mostConnections {
		lines = append(lines, fmt.Errorf("--connections: %d is not between 1 and %d", c.Connections, mostConnections))
	}
	if c.GiveUp <= 0 {
		lines = append(lines, fmt.Errorf("--give-up-after: %v is not positive", c.GiveUp))
	}
	if c.Resume && c.resultsFile() == "" {
		lines = append(lines, errors.New("--resume: --results has to name the file of the run"))
	}
	return errors.Join(lines...)
}

func (c *SubmitConfig) resultsFile() string {
	if c.Results != "" || c.File == "-" {
		return c.Results
	}
	return c.File + ".results.ndjson"
}

const queued = 16 // trades read ahead for each connection

// submitter sends the trades of one input.
type submitter struct {
	cfg     SubmitConfig
	env     Env
	sender  *sender
	input   *input
	results *results
	say     *loadtest.Progress
	started time.Time
	read    atomic.Bool // to the end

	mu    sync.Mutex // protects what follows, and keeps lines of the results file whole
	tally tally
}

// Submit sends every trade of a file and returns when each has its answer, or ctx ends: then the answers under way are
// waited for. Its error is an Exit unless all was accepted.
func Submit(ctx context.Context, cfg SubmitConfig, env Env) error {
	s, err := newSubmitter(ctx, cfg, env)
	if err != nil {
		return err
	}
	defer s.sender.client.close()
	stop, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	queues := make([]chan item, cfg.Connections)
	var senders sync.WaitGroup
	for i := range queues {
		queues[i] = make(chan item, queued)
		senders.Go(func() { s.send(stop, giveUp, queues[i]) })
	}
	go s.distribute(stop, giveUp, queues) // may stay behind, reading standard input
	end := s.say.Phase(s.line)
	senders.Wait()
	end()
	return s.conclude(context.Cause(stop))
}

// newSubmitter opens the files. The input is opened beside: nobody may be writing to standard input.
func newSubmitter(ctx context.Context, cfg SubmitConfig, env Env) (*submitter, error) {
	s := &submitter{cfg: cfg, env: env, sender: newSender(cfg.Client, cfg.Connections, cfg.GiveUp, cfg.Wait), say: loadtest.NewProgress(env.Stderr, env.Live), started: time.Now()}
	opened := make(chan error, 1)
	go func() {
		var err error
		s.input, err = openInput(cfg.File, cfg.Format, env.Stdin)
		opened <- err
	}()
	select {
	case err := <-opened:
		if err != nil {
			return nil, &Exit{exitUsage, fmt.Errorf("cannot read %s: %w", cfg.File, err)}
		}
	case <-ctx.Done():
		return nil, &Exit{exitUnknown, errors.New("ended before anything was sent")}
	}
	var err error
	if cfg.Resume {
		s.results, err = resumeResults(cfg.resultsFile(), cfg.Wait, s.tally.earlier)
	} else {
		s.results, err = newResults(cfg.resultsFile(), cfg.File)
	}
	if err != nil {
		return nil, &Exit{exitUsage, err}
	}
	return s, nil
}

// distribute reads the input and gives all trades of one id to one sender, which keeps their order.
func (s *submitter) distribute(stop context.Context, giveUp context.CancelCauseFunc, queues []chan item) {
	seed := maphash.MakeSeed()
	for {
		it, err := s.input.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			giveUp(fmt.Errorf("cannot read %s: %w", s.cfg.File, err))
			return
		}
		if s.results.done.has(it.line) {
			continue
		}
		select {
		case queues[maphash.String(seed, it.tradeID)%uint64(len(queues))] <- it:
		case <-stop.Done():
			return
		}
	}
	s.read.Store(true)
	for _, queue := range queues {
		close(queue)
	}
}

// send takes one trade after the other until there are no more, or no more may be sent.
func (s *submitter) send(stop context.Context, giveUp context.CancelCauseFunc, queue <-chan item) {
	for {
		select {
		case it, more := <-queue:
			if !more || stop.Err() != nil {
				return
			}
			r, err := s.submit(stop, it)
			if err == nil {
				err = s.record(r)
			} else {
				_ = s.record(r) // the first reason counts
			}
			if err != nil {
				giveUp(err)
				return
			}
		case <-stop.Done():
			return
		}
	}
}

// submit sends a trade until it has its answer. Errors: the run can't go on.
func (s *submitter) submit(stop context.Context, it item) (result, error) {
	r := result{Line: it.line, TradeID: cut(it.tradeID), Version: it.version, Status: unknown}
	if it.body == nil {
		r.Status, r.Detail = unreadable, it.fault
		return r, nil
	}
	err := s.sender.post(stop, &r, it.body, "Idempotency-Key", s.results.key(it.line))
	return r, err
}

// record counts a result and writes it down.
func (s *submitter) record(r result) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.tally.add(r); n <= shownResults && r.Status != pending && r.Status != success {
		s.say.Say("%s", Clean(r.String()))
		if n == shownResults {
			s.say.Say("... further ones are counted")
		}
	}
	if err := s.results.append(r); err != nil {
		return fmt.Errorf("cannot write results: %w", err)
	}
	return nil
}
