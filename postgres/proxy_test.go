package postgres

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// proxy stands between a pool and the server and cuts the connection at a given message, once.
type proxy struct {
	url    string
	target atomic.Pointer[string] // of connections from now on
	// request is cut before the server sees it, reply before the client does.
	request, reply atomic.Pointer[[]byte]
	cuts           atomic.Int32
	held           atomic.Pointer[heldRequest]
}

// heldRequest is passed on when it is released, whether its client is still there or not.
type heldRequest struct {
	mark            []byte
	release, passed chan struct{}
}

func newProxy(t testing.TB, databaseURL string) *proxy {
	t.Helper()
	u, err := url.Parse(databaseURL)
	require.NoError(t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{}
	p.to(u.Host)
	u.Host = ln.Addr().String()
	p.url = u.String()
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { p.serve(client) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		conns.Wait()
	})
	return p
}

func (p *proxy) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", *p.target.Load())
	if err != nil {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.pipe(server, client, &p.request) })
	p.pipe(client, server, &p.reply)
	both.Wait()
}

// pipe copies until one side ends or the mark shows up, which is not passed on. Then it closes both sides.
func (p *proxy) pipe(to, from net.Conn, mark *atomic.Pointer[[]byte]) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buf := make([]byte, 1<<16)
	for {
		n, err := from.Read(buf)
		if m := mark.Load(); m != nil && bytes.Contains(buf[:n], *m) {
			mark.Store(nil)
			p.cuts.Add(1)
			return
		}
		if h := p.held.Load(); h != nil && mark == &p.request && bytes.Contains(buf[:n], h.mark) {
			p.held.Store(nil)
			rest, _ := io.ReadAll(from) // until the client gives up
			<-h.release
			_, err := to.Write(append(buf[:n], rest...))
			p.cuts.Add(1)
			close(h.passed)
			if err != nil {
				return
			}
			continue
		}
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

func (p *proxy) to(target string) { p.target.Store(&target) }

// hold holds the next request with a text until land is called, or the test ends.
func (p *proxy) hold(t testing.TB, s string) (land func()) {
	h := &heldRequest{[]byte(s), make(chan struct{}), make(chan struct{})}
	release := sync.OnceFunc(func() { close(h.release) })
	t.Cleanup(release)
	p.held.Store(h)
	return func() {
		release()
		<-h.passed
	}
}

func (p *proxy) cutRequest(s string) { b := []byte(s); p.request.Store(&b) }
func (p *proxy) cutReply(s string)   { b := []byte(s); p.reply.Store(&b) }
