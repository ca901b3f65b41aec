package server

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	discardBytes = 1 << 20                // read and discarded when a connection closes in the middle of a request
	discardTime  = 5 * time.Second        // at most for that
	refuseTime   = 100 * time.Millisecond // for the answer on a connection that is refused
	acceptPause  = 5 * time.Millisecond   // after the first failed accept; doubled up to acceptPauses
	acceptPauses = time.Second
)

// conns is a listener that bounds the open connections, in all and from one address, IPv6 included. It refuses the rest
// with a problem document. It goes on after the process had no free file descriptor.
type conns struct {
	net.Listener
	max, maxPerAddr int
	slack           time.Duration // how much earlier a deadline may be than wanted
	m               *metrics

	mu    sync.Mutex // protects what follows
	total int
	open  map[netip.Addr]int // by address; IPv6 by its /64, because one client owns a whole /64
}

func newConns(ln net.Listener, cfg *Config, m *metrics) *conns {
	return &conns{
		Listener: ln, max: cfg.MaxConns, maxPerAddr: cfg.MaxConnsPerAddr, m: m, open: map[netip.Addr]int{},
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
		addr := addrOf(c)
		if refused := l.enter(addr); refused != nil {
			l.m.connsRefused[string(refused.code)].Inc()
			refuse(c, refused)
			continue
		}
		return &conn{Conn: c, owner: l, addr: addr}, nil
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
func (l *conns) enter(addr netip.Addr) *problem {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.total >= l.max:
		return &problem{code: TooManyConnections, detail: "the setting max-conns limits open connections"}
	case addr.IsValid() && l.open[addr] >= l.maxPerAddr:
		const detail = "the setting max-conns-per-addr limits open connections from one address"
		return &problem{code: TooManyRequests, detail: detail}
	}
	l.total++
	l.open[addr]++
	return nil
}

func (l *conns) leave(addr netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.open[addr]--; l.open[addr] == 0 {
		delete(l.open, addr)
	}
}

// count returns how many connections are open.
func (l *conns) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
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
	return c.Conn.Write(b)
}

// Close closes the connection and stops counting it. If a request was refused before it was read, the rest of it is
// read first, within limits, so that the client receives the answer.
func (c *conn) Close() error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	defer c.owner.leave(c.addr)
	if tcp, ok := c.Conn.(*net.TCPConn); ok && c.discardBody.Load() > 0 && tcp.CloseWrite() == nil {
		_ = tcp.SetReadDeadline(time.Now().Add(discardTime))
		_, _ = io.CopyN(io.Discard, tcp, c.discardBody.Load())
	}
	return c.Conn.Close()
}
