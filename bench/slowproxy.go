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

// slowProxy stands before a store and makes it slow: all connections together may send it so many bytes per second, and
// share them evenly. A store that is short of disk or processor is slow like this, by how much it is given to do; a fixed
// delay would be hidden by larger batches.
type slowProxy struct {
	store string // host:port
	ln    net.Listener
	open  sync.WaitGroup // the loop that accepts, and all connections

	perByte time.Duration
	mu      sync.Mutex // protects what follows
	free    time.Time  // when what was let through so far is worked off
	conns   map[net.Conn]bool
	closed  bool
}

// paceChunk is how much of a connection is let through at once: the less, the more evenly connections share.
const paceChunk = 4 << 10

// startSlowProxy starts one on a free port of loopback.
func startSlowProxy(store string, bytesPerSecond int) (*slowProxy, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("cannot listen before the store: %w", err)
	}
	p := &slowProxy{store: store, ln: ln, perByte: time.Second / time.Duration(bytesPerSecond), conns: map[net.Conn]bool{}}
	p.open.Go(p.accept)
	return p, nil
}

// before returns the URL of a database as one that leads through the proxy.
func (p *slowProxy) before(database string) (string, error) {
	u, err := url.Parse(database)
	if err != nil {
		return "", errors.New("cannot read the URL of the database") // the error would quote the password
	}
	u.Host = p.ln.Addr().String()
	return u.String(), nil
}

// stop closes all connections and returns when nothing runs any more.
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

// serve joins a client with the store until one of them ends.
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

// paced copies what the client sends, each piece when it is its turn.
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

// turn reserves time for n bytes and says how long it is until that begins.
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

// keep remembers connections for stop; false if it was called already.
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
