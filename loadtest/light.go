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
	d := &dispatcher{newConn: l.connFactory(target, p, into), max: cmp.Or(l.Connections, attackConns), schedule: s, results: into}
	d.changed.L = &d.mu
	d.run(ctx)
	d.working.Wait()
	return stopped(ctx, into, s.Total())
}

// Closed sends operations in a closed loop until hold has passed since the results began or ctx ends, over all its
// connections at once: each sends the next operation as soon as it has the answer to the one before. That finds the
// highest rate, and says nothing about latency: an operation is due when it is sent, so a slow server slows the load.
func (l Light) Closed(ctx context.Context, target *url.URL, p *Plan, hold time.Duration, into *Results) {
	newConn := l.connFactory(target, p, into)
	var next atomic.Uint64
	var working sync.WaitGroup
	for range cmp.Or(l.Connections, attackConns) {
		working.Go(func() {
			c := newConn()
			defer c.close()
			for now := into.Now(); now < hold && ctx.Err() == nil; now = into.Now() {
				c.send(next.Add(1)-1, now)
			}
		})
	}
	working.Wait()
}

// lines returns a function that makes a line to the target, which connects when it is used first.
func (l Light) connFactory(target *url.URL, p *Plan, into *Results) func() *conn {
	timeout := cmp.Or(l.Timeout, attackTimeout)
	return func() *conn { return newConn(target, p, into, timeout) }
}

// dispatcher hands the operations that are due to connections that are free. One goroutine leads: it waits until the next operation is
// due, and gives it to the line that was busy last, or to a new one. A line that is done takes the next operation
// itself if that is due already; so a busy dispatcher needs no hand-over, and the leader sleeps.
type dispatcher struct {
	newConn  func() *conn
	max      int
	schedule Schedule
	results  *Results
	working  sync.WaitGroup

	mu      sync.Mutex // protects what follows
	changed sync.Cond  // signalled when a line gets free, the last operation is taken, or ended is set
	next    uint64     // the operation that is sent next
	idle    []*sender
	senders int
	stopped bool // nothing more is sent
}

// worker is a line and the operation that it was given.
type sender struct {
	*conn
	operations chan uint64 // capacity 1; closed when there is nothing more to do
}

// lead hands out operations until the last one is taken or ctx ends.
func (d *dispatcher) run(ctx context.Context) {
	defer context.AfterFunc(ctx, d.stop)()
	for {
		seq, more := d.awaitConn()
		if !more {
			break
		}
		if !waitUntil(ctx, d.results, d.schedule.At(seq)) {
			break
		}
		d.dispatchDue()
	}
	d.stop()
}

// pending returns the operation that is sent next, once there may be a line for it.
func (d *dispatcher) awaitConn() (seq uint64, more bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.idle) == 0 && d.senders == d.max && d.next < d.schedule.Total() && !d.stopped {
		d.changed.Wait()
	}
	return d.next, d.next < d.schedule.Total() && !d.stopped
}

// handOut gives what is due to lines that are free.
func (d *dispatcher) dispatchDue() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.idle) > 0 || d.senders < d.max {
		seq, due := d.takeDue()
		if !due {
			return
		}
		if last := len(d.idle) - 1; last >= 0 {
			d.idle[last].operations <- seq
			d.idle = d.idle[:last]
			continue
		}
		d.senders++
		s := &sender{d.newConn(), make(chan uint64, 1)}
		s.operations <- seq
		d.working.Go(func() { d.serve(s) })
	}
}

// take takes the next operation if it is due. The caller holds mu.
func (d *dispatcher) takeDue() (seq uint64, due bool) {
	if d.stopped || d.next >= d.schedule.Total() || d.schedule.At(d.next) > d.results.Now() {
		return 0, false
	}
	d.next++
	if d.next == d.schedule.Total() {
		d.changed.Signal()
	}
	return d.next - 1, true
}

// work sends what w is given and, as long as something is due when it is done, more.
func (d *dispatcher) serve(s *sender) {
	defer s.close()
	for seq := range s.operations {
		for more := true; more; seq, more = d.nextOrIdle(s) {
			s.send(seq, d.schedule.At(seq))
		}
	}
}

// done returns the operation that w sends next, or puts w among those that are free.
func (d *dispatcher) nextOrIdle(s *sender) (seq uint64, more bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if seq, more = d.takeDue(); more {
		return seq, true
	}
	if d.stopped {
		close(s.operations)
		return 0, false
	}
	d.idle = append(d.idle, s)
	d.changed.Signal()
	return 0, false
}

// end lets no more operations be sent. What was given to a line before is sent still.
func (d *dispatcher) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return
	}
	d.stopped = true
	for _, s := range d.idle {
		close(s.operations)
	}
	d.idle = nil
	d.changed.Signal()
}
