package server

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	discardBytes = 1 << 20                // read and discarded when a connection closes in the middle of a request
	discardTime  = 5 * time.Second        // at most for that
	refuseTime   = 100 * time.Millisecond // for the answer on a connection that is refused
	acceptPause  = 5 * time.Millisecond   // after the first failed accept; doubled up to acceptPauses
	acceptPauses = time.Second
	evictPause   = 100 * time.Millisecond // between two looks for idle connections when there are too few
)

// conns is a listener that bounds the open connections, in all and from one address, IPv6 included. It refuses the rest
// with a problem document. When there is little room left, it closes those that have been idle longest, so that clients
// that keep connections and do not use them keep nobody out. It goes on after the process had no free file descriptor.
type conns struct {
	net.Listener
	max, maxPerAddr int
	room            int           // connections that should be free for new clients
	evictIdle       time.Duration // the least time that a connection is idle before it is closed to make room
	slack           time.Duration // how much earlier a deadline may be than wanted
	m               *metrics

	mu        sync.Mutex // protects what follows
	open      map[*conn]struct{}
	byAddr    map[netip.Addr]int // IPv6 by its /64, because one client owns a whole /64
	nextEvict time.Time          // no look for idle connections before
}

func newConns(ln net.Listener, cfg *Config, m *metrics) *conns {
	return &conns{
		Listener: ln, max: cfg.MaxConns, maxPerAddr: cfg.MaxConnsPerAddr, room: max(cfg.MaxConns/16, 1),
		evictIdle: cfg.evictIdle, m: m, open: map[*conn]struct{}{}, byAddr: map[netip.Addr]int{},
		slack: min(cfg.ReadTimeout, cfg.WriteTimeout, cfg.IdleTimeout) / 8,
	}
}

// Accept returns the next connection within the limits.
func (l *conns) Accept() (net.Conn, error) {
	pause := acceptPause
	for {
		c, err := l.Listener.Accept()
		switch {
		case err != nil && isExhausted(err):
			// Connections that end free descriptors; returning the error would end the service.
			l.m.acceptErrors.Inc()
			time.Sleep(pause)
			pause = min(2*pause, acceptPauses)
			continue
		case err != nil:
			return nil, err
		}
		entered := &conn{Conn: c, owner: l, addr: addrOf(c)}
		if refused := l.enter(entered); refused != nil {
			l.m.connsRefused[string(refused.code)].Inc()
			refuse(c, refused)
			continue
		}
		return entered, nil
	}
}

// Close ends Accept. Repeating it is safe.
func (l *conns) Close() error {
	if err := l.Listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

func isExhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) ||
		errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM)
}

// enter counts a connection, or returns why it is refused.
func (l *conns) enter(c *conn) *problem {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if want := len(l.open) + 1 + l.room - l.max; want > 0 {
		l.evict(now, want)
	}
	switch {
	case len(l.open) >= l.max:
		return &problem{code: TooManyConnections, detail: "the setting max-conns limits open connections"}
	case c.addr.IsValid() && l.byAddr[c.addr] >= l.maxPerAddr:
		const detail = "the setting max-conns-per-addr limits open connections from one address"
		return &problem{code: TooManyRequests, detail: detail}
	}
	l.open[c] = struct{}{}
	l.byAddr[c.addr]++
	c.idle.Store(now.UnixNano())
	return nil
}

func (l *conns) leave(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, c)
	if l.byAddr[c.addr]--; l.byAddr[c.addr] == 0 {
		delete(l.byAddr, c.addr)
	}
}

// evict closes so many connections, those that have been idle longest. They are still counted until their goroutines
// have ended. mu is held. It looks at every connection, so it does not look again soon when too few were idle.
func (l *conns) evict(now time.Time, want int) {
	if now.Before(l.nextEvict) {
		return
	}
	type idle struct {
		c     *conn
		since int64
	}
	var found []idle
	latest := now.Add(-l.evictIdle).UnixNano()
	for c := range l.open {
		switch since := c.idle.Load(); {
		case since == evicted:
			want-- // is about to leave
		case since != busy && since <= latest:
			found = append(found, idle{c, since})
		}
	}
	slices.SortFunc(found, func(a, b idle) int { return cmp.Compare(a.since, b.since) })
	for _, f := range found[:min(max(want, 0), len(found))] {
		if f.c.idle.CompareAndSwap(f.since, evicted) { // else it has just got a request
			_ = f.c.Conn.SetReadDeadline(now) // ends the read that waits for a request
			l.m.connsEvicted.Inc()
			want--
		}
	}
	if want > 0 {
		l.nextEvict = now.Add(evictPause)
	}
}

// Values of conn.idle beside a time.
const (
	busy    = 0
	evicted = -1
)

// noteState is told by the HTTP server when a connection gets a request, and when it waits for the next one.
func noteState(open net.Conn, state fasthttp.ConnState) {
	c, ok := open.(*conn)
	if !ok {
		return
	}
	if state == fasthttp.StateIdle {
		c.idle.Store(time.Now().UnixNano())
	}
	if state == fasthttp.StateActive && c.idle.Swap(busy) == evicted { // its request came at the same moment: it stays
		c.owner.mu.Lock() // until evict has set the deadline
		c.toRead.set = time.Time{}
		c.owner.mu.Unlock()
	}
}

// count returns how many connections are open.
func (l *conns) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open)
}

func addrOf(c net.Conn) netip.Addr {
	tcp, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	if addr.Is6() {
		network, _ := addr.Prefix(64) // 64 bits always fit
		return network.Addr()
	}
	return addr
}

// refuse answers without reading a byte. It runs between two accepts, so it must not wait for the client: the answer
// fits into the empty send buffer of a new connection.
func refuse(c net.Conn, p *problem) {
	id := newCorrelationID()
	body := p.append(nil, id)
	_ = c.SetWriteDeadline(time.Now().Add(refuseTime))
	_, _ = fmt.Fprintf(c, "HTTP/1.1 %d Refused\r\nConnection: close\r\n%s: %s\r\nRetry-After: %d\r\n"+
		"Content-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
		p.status(), headerCorrelationID, id, p.retry(), problemMedia, len(body), body)
	_ = c.Close()
}

// conn is an open connection that is counted until it closes.
type conn struct {
	net.Conn
	owner       *conns
	addr        netip.Addr
	closed      atomic.Bool
	idle        atomic.Int64 // since when it waits for a request, in nanoseconds since 1970; or busy, or evicted
	late        atomic.Bool  // a write took too long
	heard       atomic.Bool  // a byte was received
	discardBody atomic.Int64 // unread bytes that may arrive: a plain close would reset the connection and lose the answer
	writeLimit  atomic.Int64 // nanoseconds for each write of a stream; 0: the HTTP server sets the limit

	toRead, toWrite deadline // used by the goroutine that serves the connection
}

// deadline is set on the connection only when it is needed. The HTTP server sets three deadlines for each request, and
// each costs a lock and a timer. But a request mostly arrives in one piece, and most deadlines differ little from the
// last.
type deadline struct {
	wanted, set time.Time // zero: none
}

// apply sets the wanted deadline, unless the current one is earlier by less than slack.
func (d *deadline) apply(slack time.Duration, set func(time.Time) error) error {
	if early := d.wanted.Sub(d.set); early >= 0 && early < slack {
		return nil
	}
	d.set = d.wanted
	return set(d.wanted)
}

// SetDeadline implements net.Conn, but does not affect a read or a write that is under way.
func (c *conn) SetDeadline(t time.Time) error {
	c.toRead.wanted, c.toWrite.wanted = t, t
	return nil
}

// SetReadDeadline affects reads that start after it.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.toRead.wanted = t
	return nil
}

// SetWriteDeadline affects writes that start after it.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.toWrite.wanted = t
	return nil
}

// Read notes that the client has sent something.
func (c *conn) Read(b []byte) (int, error) {
	if err := c.toRead.apply(c.owner.slack, c.Conn.SetReadDeadline); err != nil {
		return 0, err
	}
	if c.idle.Load() == evicted { // the line above may have undone the deadline of evict
		return 0, os.ErrDeadlineExceeded
	}
	n, err := c.Conn.Read(b)
	if n > 0 && !c.heard.Load() {
		c.heard.Store(true)
	}
	return n, err
}

// Write writes within the time limit of one write, if there is one. It writes nothing to a client that has sent
// nothing: the client may have opened the connection in advance, and would take a 408 for the answer to its next
// request.
func (c *conn) Write(b []byte) (int, error) {
	if !c.heard.Load() {
		return len(b), nil
	}
	if limit := c.writeLimit.Load(); limit > 0 {
		c.toWrite.wanted = time.Now().Add(time.Duration(limit))
	}
	if err := c.toWrite.apply(c.owner.slack, c.Conn.SetWriteDeadline); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.late.Store(true)
	}
	return n, err
}

// Close closes the connection and stops counting it. If a request was refused before it was read, the rest of it is
// read first, within limits, so that the client receives the answer.
func (c *conn) Close() error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	defer c.owner.leave(c)
	if tcp, ok := c.Conn.(*net.TCPConn); ok && c.discardBody.Load() > 0 && tcp.CloseWrite() == nil {
		_ = tcp.SetReadDeadline(time.Now().Add(discardTime))
		_, _ = io.CopyN(io.Discard, tcp, c.discardBody.Load())
	}
	return c.Conn.Close()
}
