package server

import (
	"context"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"tradestore/internal/telemetry"
	"tradestore/trade"
)

const (
	followRows   = 500 // outcomes in one read of a position
	followBehind = 8   // positions that are behind, read in one round beside those at the front
)

// tail reads the journal for those who follow a trade. One goroutine reads for all, from the position of each: followers
// of one partition that have seen all are at the same position and share a read. Nothing is buffered for a follower but
// the outcomes of one read; until it has taken them its position stays.
type journalFollower struct {
	journalPoller // arrived is a new follower, or one that has taken its news
	journal       Journal
	timeout       time.Duration // of one read
	log           zerolog.Logger

	mu        sync.Mutex // protects what follows, and the positions of followers
	followers map[*follower]struct{}
}

// follower follows one trade through the journal.
type follower struct {
	tradeID string
	at      trade.Position        // of the next outcome to look at
	current trade.Position        // where the newest generation begins for it; at goes there from the end of the one before
	news    chan []trade.Decision // of the trade, those of one read; capacity 1, so what is in it has not been taken
}

func newJournalFollower(cfg *Config, deps *Deps, closed <-chan struct{}, m *metrics) *journalFollower {
	return &journalFollower{
		journalPoller: newJournalPoller(closed, m), journal: deps.Journal, timeout: cfg.StoreTimeout, log: telemetry.Sampled(deps.Log),
		followers: map[*follower]struct{}{},
	}
}

// enter follows f; leave must come after it.
func (t *journalFollower) enter(f *follower) {
	t.mu.Lock()
	t.followers[f] = struct{}{}
	t.mu.Unlock()
	notify(t.arrived)
}

func (t *journalFollower) leave(f *follower) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.followers, f)
}

// position returns up to where f has been told all.
func (t *journalFollower) position(f *follower) trade.Position {
	t.mu.Lock()
	defer t.mu.Unlock()
	return f.at
}

// run reads while there are followers that can take news, until closed.
func (t *journalFollower) run() {
	anyone := func() bool {
		front, _ := t.positions()
		return len(front) > 0
	}
	t.poll(anyone, t.round, func(err error) {
		t.m.followErrors.Inc()
		t.log.Warn().Err(err).Msg("cannot read the journal for those who follow it: trying again")
	})
}

// part is one partition of one generation.
type part struct{ generation, partition int32 }

func partOf(p *trade.Position) part { return part{p.Generation, p.Partition} }

// positions returns where followers are that can take news: of each partition the position furthest on, and some others.
func (t *journalFollower) positions() (front, behind []trade.Position) {
	t.mu.Lock()
	defer t.mu.Unlock()
	furthest := map[part]trade.Position{}
	for f := range t.followers {
		if p, ok := furthest[partOf(&f.at)]; len(f.news) == 0 && (!ok || f.at.NextOffset > p.NextOffset) {
			furthest[partOf(&f.at)] = f.at
		}
	}
	seen := map[trade.Position]bool{}
	for _, p := range furthest {
		front, seen[p] = append(front, p), true
	}
	for f := range t.followers { // in no order, so that each has its turn
		if len(f.news) == 0 && !seen[f.at] && len(behind) < followBehind {
			behind, seen[f.at] = append(behind, f.at), true
		}
	}
	return front, behind
}

// round reads once from the positions of followers.
func (t *journalFollower) round() (err error) {
	front, behind := t.positions()
	if len(front) > 0 {
		err = t.read(front)
	}
	for i := 0; i < len(behind) && err == nil; i++ { // one by one: rows of one partition don't say which position they answer
		err = t.read(behind[i : i+1])
	}
	return err
}

// read reads from positions of different partitions and hands out what was found.
func (t *journalFollower) read(from []trade.Position) error {
	ctx, cancel := context.WithTimeout(context.Background(), t.timeout)
	defer cancel()
	began := time.Now()
	outcomes, err := t.journal.After(ctx, from, followRows)
	t.m.followReads.Observe(time.Since(began).Seconds())
	if err != nil {
		return err
	}
	found := map[part][]trade.Decision{}
	for _, o := range outcomes {
		p := part{o.Generation, o.Partition}
		found[p] = append(found[p], o)
	}
	read := make(map[trade.Position][]trade.Decision, len(from))
	for _, p := range from {
		read[p] = found[partOf(&p)]
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for f := range t.followers {
		if rows, ok := read[f.at]; ok && len(f.news) == 0 {
			f.take(rows)
		}
	}
	return nil
}

// take moves f past the rows that were read from its position.
func (f *follower) take(rows []trade.Decision) {
	if len(rows) == 0 {
		if f.at.Generation < f.current.Generation { // applied to its end for good, before the next one began
			f.at = f.current
		}
		return
	}
	f.at.NextOffset = rows[len(rows)-1].Offset + 1
	var news []trade.Decision
	for _, o := range rows {
		if o.TradeID == f.tradeID {
			news = append(news, o)
		}
	}
	if len(news) > 0 {
		f.news <- news
	}
}
