package app

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// door is an address of a store that refuses connections until it is opened, and after it is shut.
type door struct {
	url     string
	address string

	mu    sync.Mutex // protects what follows
	ln    net.Listener
	conns []net.Conn
}

func newDoor(t *testing.T, behind string) *door {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	u, err := url.Parse(behind)
	require.NoError(t, err)
	u.Host = free.Addr().String()
	require.NoError(t, free.Close())
	return &door{url: u.String(), address: u.Host}
}

// open lets connections through, until it is shut or the test ends.
func (d *door) open(t *testing.T, behind string) {
	t.Helper()
	u, err := url.Parse(behind)
	require.NoError(t, err)
	ln, err := net.Listen("tcp", d.address)
	require.NoError(t, err)
	d.mu.Lock()
	d.ln = ln
	d.mu.Unlock()
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", u.Host)
			if err != nil {
				_ = in.Close()
				continue
			}
			d.mu.Lock()
			d.conns = append(d.conns, in, out)
			d.mu.Unlock()
			go pipe(in, out)
			go pipe(out, in)
		}
	}()
}

// shut breaks every connection and refuses new ones.
func (d *door) shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	_ = d.ln.Close()
	for _, conn := range d.conns {
		_ = conn.Close()
	}
	d.conns = nil
}

func pipe(from, to net.Conn) {
	_, _ = io.Copy(to, from)
	_ = from.Close()
	_ = to.Close()
}

// safeBuffer is a log that may be read while it is written.
type safeBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
