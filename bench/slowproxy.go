package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"time"
)

// slowProxy limits the bytes per second that all connections together send to a store; connections share them evenly. A
// store short of disk or CPU behaves like this. Larger batches would hide a fixed delay.
type slowProxy struct {
	store string // host:port
	ln    net.Listener
	open  sync.WaitGroup // the loop that accepts, and all connections

	perByte time.Duration
	mu      sync.Mutex // protects what follows
	free    time.Time  // end of the time reserved so far
	conns   map[net.Conn]bool
	closed  bool
}

// paceChunk is the unit of sharing between connections.
const paceChunk = 4 << 10

// startSlowProxy starts a proxy on a free port of loopback.
func startSlowProxy(store string, bytesPerSecond int) (*slowProxy, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("cannot listen before the store: %w", err)
	}
	p := &slowProxy{store: store, ln: ln, perByte: time.Second / time.Duration(bytesPerSecond), conns: map[net.Conn]bool{}}
	p.open.Go(p.accept)
	return p, nil
}

// before returns the URL of a database through the proxy.
func (p *slowProxy) before(database string) (string, error) {
	u, err := url.Parse(database)
	if err != nil {
		return "", errors.New("cannot read the URL of the database") // the error would quote the password
	}
	u.Host = p.ln.Addr().String()
	return u.String(), nil
}

// stop closes all connections and waits for all goroutines.
func (p *slowProxy) stop() {
	_ = p.ln.Close()
	p.mu.Lock()
	p.closed = true
	for c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.open.Wait()
}

func (p *slowProxy) accept() {
	for {
		client, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.open.Go(func() { p.serve(client) })
	}
}

// serve connects a client with the store until one of them closes.
func (p *slowProxy) serve(client net.Conn) {
	defer client.Close()
	store, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", p.store)
	if err != nil {
		return
	}
	defer store.Close()
	if !p.keep(client, store) {
		return
	}
	defer p.forget(client, store)
	replies := make(chan struct{})
	go func() {
		defer close(replies)
		_, _ = io.Copy(client, store)
		_ = client.Close()
	}()
	p.paced(store, client)
	_ = store.Close()
	<-replies
}

// paced copies from client to store, piece by piece at its turn.
func (p *slowProxy) paced(store io.Writer, client io.Reader) {
	piece := make([]byte, paceChunk)
	for {
		n, err := client.Read(piece)
		time.Sleep(p.turn(n, time.Now()))
		if _, lost := store.Write(piece[:n]); err != nil || lost != nil {
			return
		}
	}
}

// turn reserves time for n bytes and returns how long to wait for it.
func (p *slowProxy) turn(n int, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.free.Before(now) {
		p.free = now
	}
	wait := p.free.Sub(now)
	p.free = p.free.Add(time.Duration(n) * p.perByte)
	return wait
}

// keep registers connections for stop; false if stop was already called.
func (p *slowProxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.conns[c] = true
	}
	return !p.closed
}

func (p *slowProxy) forget(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.conns, c)
	}
}
