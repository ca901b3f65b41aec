package loadtest

import (
	"cmp"
	"context"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// Light is a generator for rates that vegeta cannot reach. It writes HTTP/1.1 itself and reads only what a Result
// needs. Each connection carries one operation at a time.
type Light struct {
	Connections int           // at most; default 1000. As many are opened as operations are under way at once
	Timeout     time.Duration // of one operation, connecting included; default 5 s
}

// Name returns "light".
func (Light) Name() string { return "light" }

// Attack implements Generator.
func (l Light) Attack(ctx context.Context, target *url.URL, p *Plan, s Schedule, into *Results) error {
	d := &dispatcher{newConn: l.connFactory(target, p, into), max: cmp.Or(l.Connections, attackConns), schedule: s,
		results: into}
	d.changed.L = &d.mu
	d.run(ctx)
	d.working.Wait()
	return stopped(ctx, into, s.Total())
}

// Closed sends operations in a closed loop over all connections until hold has passed since the results began, or ctx
// ends. Each connection sends the next operation when it has the answer. This finds the highest rate but says nothing
// about latency: a slow server slows the load.
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

// connFactory returns a function that makes a conn to the target, which connects on first use.
func (l Light) connFactory(target *url.URL, p *Plan, into *Results) func() *conn {
	timeout := cmp.Or(l.Timeout, attackTimeout)
	return func() *conn { return newConn(target, p, into, timeout) }
}

// dispatcher gives due operations to idle senders. run waits until the next operation is due and gives it to the sender
// that was busy last, or to a new one. A sender that is done takes the next operation itself if it is due, so under
// high load run sleeps.
type dispatcher struct {
	newConn  func() *conn
	max      int
	schedule Schedule
	results  *Results
	working  sync.WaitGroup

	mu      sync.Mutex // protects what follows
	changed sync.Cond  // signalled when a sender is idle, the last operation is taken, or stopped is set
	next    uint64     // the next operation
	idle    []*sender
	senders int
	stopped bool // nothing more is sent
}

// sender is a connection and its channel of operations.
type sender struct {
	*conn
	operations chan uint64 // capacity 1; closed at the end
}

// run dispatches operations until the last one is taken or ctx ends.
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

// awaitConn waits until a sender is idle or may be made, and returns the next operation.
func (d *dispatcher) awaitConn() (seq uint64, more bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.idle) == 0 && d.senders == d.max && d.next < d.schedule.Total() && !d.stopped {
		d.changed.Wait()
	}
	return d.next, d.next < d.schedule.Total() && !d.stopped
}

// dispatchDue gives due operations to idle or new senders.
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

// takeDue takes the next operation if it is due. The caller holds mu.
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

// serve sends the operations that s receives, and further ones while they are due.
func (d *dispatcher) serve(s *sender) {
	defer s.close()
	for seq := range s.operations {
		for more := true; more; seq, more = d.nextOrIdle(s) {
			s.send(seq, d.schedule.At(seq))
		}
	}
}

// nextOrIdle returns the next operation for s, or marks s as idle.
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

// stop ends the dispatching. Senders still send what they have received.
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
