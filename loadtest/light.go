package loadtest

import (
	"cmp"
	"context"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// Light is a generator for rates that vegeta's CPU can't reach. It writes requests itself onto connections of its own, and
// reads no more of an answer than a Result needs. One operation at a time is on a connection.
type Light struct {
	Connections int           // at most; default 1000. As many are opened as operations are under way at once
	Timeout     time.Duration // of one operation, connecting included; default 5 s
}

// Name returns "light".
func (Light) Name() string { return "light" }

// Attack implements Generator.
func (l Light) Attack(ctx context.Context, target *url.URL, p *Plan, s Schedule, into *Results) error {
	g := &dispatcher{line: l.conns(target, p, into), max: cmp.Or(l.Connections, attackConns), s: s, into: into}
	g.changed.L = &g.mu
	g.lead(ctx)
	g.working.Wait()
	return stopped(ctx, into, s.Total())
}

// Closed sends operations in a closed loop until hold has passed since the results began or ctx ends, over all its
// connections at once: each sends the next operation as soon as it has the answer to the one before. That finds the
// highest rate, and says nothing about latency: an operation is due when it is sent, so a slow server slows the load.
func (l Light) Closed(ctx context.Context, target *url.URL, p *Plan, hold time.Duration, into *Results) {
	newLine := l.conns(target, p, into)
	var next atomic.Uint64
	var working sync.WaitGroup
	for range cmp.Or(l.Connections, attackConns) {
		working.Go(func() {
			line := newLine()
			defer line.close()
			for now := into.Now(); now < hold && ctx.Err() == nil; now = into.Now() {
				line.send(next.Add(1)-1, now)
			}
		})
	}
	working.Wait()
}

// lines returns a function that makes a line to the target, which connects when it is used first.
func (l Light) conns(target *url.URL, p *Plan, into *Results) func() *conn {
	timeout := cmp.Or(l.Timeout, attackTimeout)
	return func() *conn { return newLine(target, p, into, timeout) }
}

// dispatcher hands the operations that are due to connections that are free. One goroutine leads: it waits until the next operation is
// due, and gives it to the line that was busy last, or to a new one. A line that is done takes the next operation
// itself if that is due already; so a busy dispatcher needs no hand-over, and the leader sleeps.
type dispatcher struct {
	line    func() *conn
	max     int
	s       Schedule
	into    *Results
	working sync.WaitGroup

	mu      sync.Mutex // protects what follows
	changed sync.Cond  // signalled when a line gets free, the last operation is taken, or ended is set
	next    uint64     // the operation that is sent next
	free    []*worker
	workers int
	ended   bool // nothing more is sent
}

// worker is a line and the operation that it was given.
type worker struct {
	*conn
	given chan uint64 // capacity 1; closed when there is nothing more to do
}

// lead hands out operations until the last one is taken or ctx ends.
func (g *dispatcher) lead(ctx context.Context) {
	defer context.AfterFunc(ctx, g.end)()
	for {
		seq, more := g.pending()
		if !more {
			break
		}
		if !waitUntil(ctx, g.into, g.s.At(seq)) {
			break
		}
		g.handOut()
	}
	g.end()
}

// pending returns the operation that is sent next, once there may be a line for it.
func (g *dispatcher) pending() (seq uint64, more bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.free) == 0 && g.workers == g.max && g.next < g.s.Total() && !g.ended {
		g.changed.Wait()
	}
	return g.next, g.next < g.s.Total() && !g.ended
}

// handOut gives what is due to lines that are free.
func (g *dispatcher) handOut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.free) > 0 || g.workers < g.max {
		seq, due := g.take()
		if !due {
			return
		}
		if last := len(g.free) - 1; last >= 0 {
			g.free[last].given <- seq
			g.free = g.free[:last]
			continue
		}
		g.workers++
		w := &worker{g.line(), make(chan uint64, 1)}
		w.given <- seq
		g.working.Go(func() { g.work(w) })
	}
}

// take takes the next operation if it is due. The caller holds mu.
func (g *dispatcher) take() (seq uint64, due bool) {
	if g.ended || g.next >= g.s.Total() || g.s.At(g.next) > g.into.Now() {
		return 0, false
	}
	g.next++
	if g.next == g.s.Total() {
		g.changed.Signal()
	}
	return g.next - 1, true
}

// work sends what w is given and, as long as something is due when it is done, more.
func (g *dispatcher) work(w *worker) {
	defer w.close()
	for seq := range w.given {
		for more := true; more; seq, more = g.done(w) {
			w.send(seq, g.s.At(seq))
		}
	}
}

// done returns the operation that w sends next, or puts w among those that are free.
func (g *dispatcher) done(w *worker) (seq uint64, more bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if seq, more = g.take(); more {
		return seq, true
	}
	if g.ended {
		close(w.given)
		return 0, false
	}
	g.free = append(g.free, w)
	g.changed.Signal()
	return 0, false
}

// end lets no more operations be sent. What was given to a line before is sent still.
func (g *dispatcher) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return
	}
	g.ended = true
	for _, w := range g.free {
		close(w.given)
	}
	g.free = nil
	g.changed.Signal()
}
