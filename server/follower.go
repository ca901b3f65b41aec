package server

import (
	"context"
	"sync"

	"tradestore/trade"
)

const (
	followRows = 500 // journal rows in one read of a position
	maxBehind  = 8   // positions that are behind, read in one round beside those at the front
)

// journalFollower reads the journal for the followers of trades. One goroutine reads for all, from the position of
// each: followers of one partition that have seen all rows are at the same position and share a read. A follower
// buffers the rows of one read at most; its position stays until it has taken them.
type journalFollower struct {
	pollLoop // joined: a new follower, or one that has taken its news
	journal  Journal

	mu        sync.Mutex // protects what follows, and the positions of followers
	followers map[*follower]struct{}
}

// follower follows one trade through the journal.
type follower struct {
	tradeID string
	at      trade.Position        // of the next row to look at
	current trade.Position        // start of the newest generation; at goes there from the end of the one before
	news    chan []trade.Decision // rows of the trade from one read; capacity 1, so what is in it has not been taken
}

func newJournalFollower(cfg *Config, deps *Deps, m *metrics, closed <-chan struct{}) *journalFollower {
	return &journalFollower{
		pollLoop: newPollLoop(cfg, deps, m, closed, m.followReads, m.followErrors),
		journal:  deps.Journal, followers: map[*follower]struct{}{},
	}
}

// enter adds f; leave must follow.
func (j *journalFollower) enter(f *follower) {
	j.mu.Lock()
	j.followers[f] = struct{}{}
	j.mu.Unlock()
	notify(j.joined)
}

func (j *journalFollower) leave(f *follower) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.followers, f)
}

// position returns up to where f has been told all.
func (j *journalFollower) position(f *follower) trade.Position {
	j.mu.Lock()
	defer j.mu.Unlock()
	return f.at
}

// run reads while there are followers that can take news, until closed.
func (j *journalFollower) run() {
	anyone := func() bool {
		front, _ := j.positions()
		return len(front) > 0
	}
	round := func(bool) error { return j.round() }
	j.poll(anyone, round, "cannot read the journal for the followers of trades: trying again")
}

// part is one partition of one generation.
type part struct{ generation, partition int32 }

func partOf(p *trade.Position) part { return part{p.Generation, p.Partition} }

// positions returns where followers are that can take news: the furthest position of each partition, and some others.
func (j *journalFollower) positions() (front, behind []trade.Position) {
	j.mu.Lock()
	defer j.mu.Unlock()
	furthest := map[part]trade.Position{}
	for f := range j.followers {
		p, ok := furthest[partOf(&f.at)]
		if len(f.news) == 0 && (!ok || f.at.NextOffset > p.NextOffset) {
			furthest[partOf(&f.at)] = f.at
		}
	}
	seen := map[trade.Position]bool{}
	for _, p := range furthest {
		front, seen[p] = append(front, p), true
	}
	for f := range j.followers { // in no order, so that each has its turn
		if len(f.news) == 0 && !seen[f.at] && len(behind) < maxBehind {
			behind, seen[f.at] = append(behind, f.at), true
		}
	}
	return front, behind
}

// round reads once from the positions of followers.
func (j *journalFollower) round() (err error) {
	front, behind := j.positions()
	if len(front) > 0 {
		err = j.readFrom(front)
	}
	for i := 0; i < len(behind) && err == nil; i++ { // one by one: a row does not say which position it answers
		err = j.readFrom(behind[i : i+1])
	}
	return err
}

// readFrom reads from positions of different partitions and hands out the rows.
func (j *journalFollower) readFrom(from []trade.Position) error {
	var rows []trade.Decision
	err := j.read(func(ctx context.Context) (err error) {
		rows, err = j.journal.After(ctx, from, followRows)
		return err
	})
	if err != nil {
		return err
	}
	byPart := map[part][]trade.Decision{}
	for _, row := range rows {
		p := part{row.Generation, row.Partition}
		byPart[p] = append(byPart[p], row)
	}
	byPosition := make(map[trade.Position][]trade.Decision, len(from))
	for _, p := range from {
		byPosition[p] = byPart[partOf(&p)]
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for f := range j.followers {
		if rows, ok := byPosition[f.at]; ok && len(f.news) == 0 {
			f.advance(rows)
		}
	}
	return nil
}

// advance moves f past the rows that were read from its position.
func (f *follower) advance(rows []trade.Decision) {
	if len(rows) == 0 {
		if f.at.Generation < f.current.Generation { // the older generation ended before the newest began
			f.at = f.current
		}
		return
	}
	f.at.NextOffset = rows[len(rows)-1].Offset + 1
	var news []trade.Decision
	for _, row := range rows {
		if row.TradeID == f.tradeID {
			news = append(news, row)
		}
	}
	if len(news) > 0 {
		f.news <- news
	}
}
