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

	"tradestore/internal/apiclient"
	"tradestore/loadtest"
	"tradestore/trade"
)

type submitCommand struct {
	File        string        `arg:"" name:"file" help:"File of trades, or - for standard input."`
	Client      clientFlags   `embed:""`
	Format      string        `name:"format" env:"-" enum:"auto,json,ndjson,csv" default:"auto" help:"Of the file: json, ndjson, csv with a header, or auto, which tells by the ending of the name or else by the first line."`
	Connections int           `name:"connections" env:"-" group:"tuning" default:"16" help:"Trades under way at once. Those of one trade id go one after the other."`
	Wait        bool          `name:"wait" env:"-" help:"Follow each trade to its outcome before the next one of its trade id is sent."`
	GiveUp      time.Duration `name:"give-up-after" env:"-" group:"tuning" default:"5m" help:"How long one trade is tried without a usable answer before the run ends unfinished."`
	Results     string        `name:"results" env:"-" group:"reporting" placeholder:"FILE.results.ndjson" help:"File for what became of each line. Standard input has none unless it is named."`
	Resume      bool          `name:"resume" env:"-" help:"Go on with the run whose results file is there: lines that have their answer are skipped, the others repeated under the same keys."`
	JSON        bool          `name:"json" env:"-" group:"reporting" help:"The summary, as JSON."`
}

const mostConnections = 1024

// Help is shown below the summary of --help.
func (submitCommand) Help() string {
	return `Reads trades from a file and posts each one. A line that cannot be read gets its own result. So does a line that the service refuses. A trade is tried again when the service is overloaded or does not answer, always under the same idempotency key: it is never stored twice. Those of one trade id are sent in the order of the file.

What became of each line is in the results file. Ctrl-C finishes the answers under way and says how to go on; a second one ends at once, and --resume goes on after that as well.

Exit codes: 0 all accepted (with --wait: stored); 1 some refused, FAILED or unreadable; 2 a mistake in the flags or a file that can't be used, nothing was sent; 3 unfinished: interrupted, or the service does not answer.

Examples:

    tradestore submit trades.csv
    tradestore submit trades.ndjson --wait --connections 64
    tradestore submit trades.csv --resume
    generate-trades | tradestore submit - --format ndjson --results today.ndjson`
}

// Validate lists every mistake in the settings, one per line, each with its flag; nil if there is none.
func (c *submitCommand) Validate() error {
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

func (c *submitCommand) resultsFile() string {
	if c.Results != "" || c.File == "-" {
		return c.Results
	}
	return c.File + ".results.ndjson"
}

const queued = 16 // trades read ahead for each connection

// submitter sends the trades of one input.
type submitter struct {
	cfg      *submitCommand
	process  *process
	sender   *sender
	input    *input
	results  *results
	progress *loadtest.Progress
	started  time.Time
	read     atomic.Bool // to the end

	mu    sync.Mutex // protects what follows, and keeps lines of the results file whole
	tally tally
}

// run sends every trade of a file and returns when each has its answer, or ctx ends: then the answers under way are
// waited for. Its error has an exit code unless all was accepted.
func (c *submitCommand) run(ctx context.Context, p *process) error {
	s, err := newSubmitter(ctx, c, p)
	if err != nil {
		return err
	}
	defer s.sender.client.Close()
	stop, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	queues := make([]chan item, c.Connections)
	var senders sync.WaitGroup
	for i := range queues {
		queues[i] = make(chan item, queued)
		senders.Go(func() { s.send(stop, giveUp, queues[i]) })
	}
	go s.distribute(stop, giveUp, queues) // may stay behind, reading standard input
	end := s.progress.Phase(s.line)
	senders.Wait()
	end()
	return s.conclude(context.Cause(stop))
}

// newSubmitter opens the files. The input is opened in a goroutine, because standard input may block for ever.
func newSubmitter(ctx context.Context, cfg *submitCommand, p *process) (*submitter, error) {
	s := &submitter{
		cfg: cfg, process: p, started: time.Now(), progress: loadtest.NewProgress(p.stderr, p.live),
		sender: newSender(cfg.Client, cfg.Connections, cfg.GiveUp, cfg.Wait),
	}
	opened := make(chan error, 1)
	go func() {
		var err error
		s.input, err = openInput(cfg.File, cfg.Format, p.stdin)
		opened <- err
	}()
	select {
	case err := <-opened:
		if err != nil {
			return nil, &exitError{exitUsage, fmt.Errorf("cannot read %s: %w", cfg.File, err)}
		}
	case <-ctx.Done():
		return nil, &exitError{exitUnknown, errors.New("ended before anything was sent")}
	}
	var err error
	if cfg.Resume {
		s.results, err = resumeResults(cfg.resultsFile(), cfg.Wait, s.tally.earlier)
	} else {
		s.results, err = newResults(cfg.resultsFile(), cfg.File)
	}
	if err != nil {
		return nil, &exitError{exitUsage, err}
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
	err := s.sender.post(stop, &r, it.body, apiclient.PostOptions{Key: s.results.key(it.line)})
	return r, err
}

// record counts a result and writes it down.
func (s *submitter) record(r result) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.tally.add(r); n <= shownResults && r.Status != trade.Pending && r.Status != trade.Success {
		s.progress.Say("%s", printable(r.String()))
		if n == shownResults {
			s.progress.Say("... further ones are counted")
		}
	}
	if err := s.results.append(r); err != nil {
		return fmt.Errorf("cannot write results: %w", err)
	}
	return nil
}
