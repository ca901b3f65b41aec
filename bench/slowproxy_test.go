package main

import (
	"bufio"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// echo starts a store that sends back each line.
func echo(t *testing.T) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	return ln.Addr().String()
}

func TestSlowProxyPassesEverythingOn(t *testing.T) {
	p, err := startSlowProxy(echo(t), 100<<20)
	require.NoError(t, err)
	defer p.stop()
	c, err := net.Dial("tcp", p.ln.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	sent := make([]byte, 10*paceChunk+7)
	for i := range sent {
		sent[i] = byte(i % 251)
	}
	go func() { _, _ = c.Write(sent) }()
	got := make([]byte, len(sent))
	_, err = io.ReadFull(c, got)
	require.NoError(t, err)
	require.Equal(t, sent, got)
}

// Stopping ends connections that are open, and one that is slow to get its turn.
func TestSlowProxyEndsItsConnections(t *testing.T) {
	p, err := startSlowProxy(echo(t), 100<<20)
	require.NoError(t, err)
	c, err := net.Dial("tcp", p.ln.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Write([]byte("hello\n"))
	require.NoError(t, err)
	said, err := bufio.NewReader(c).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "hello\n", said)
	p.stop()
	_, err = c.Read(make([]byte, 1))
	require.Error(t, err)
	require.Empty(t, p.conns)
}

func TestSlowProxyWithoutAStore(t *testing.T) {
	address, err := freeAddress()
	require.NoError(t, err)
	p, err := startSlowProxy(address, 1000)
	require.NoError(t, err)
	defer p.stop()
	c, err := net.Dial("tcp", p.ln.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
}

// Turns follow each other at the rate, whoever takes them; time in which nobody wants one is not saved up.
func TestSlowProxyTurns(t *testing.T) {
	now := time.Now()
	p := &slowProxy{perByte: time.Second / 1000}
	f := func(want time.Duration, n int, after time.Duration) {
		t.Helper()
		require.Equal(t, want, p.turn(n, now.Add(after)))
	}
	f(0, 1000, 0)
	f(time.Second, 500, 0)
	f(time.Second, 100, 500*time.Millisecond)
	f(100*time.Millisecond, 0, 1500*time.Millisecond)
	f(0, 1000, time.Minute)
	f(time.Second, 1, time.Minute)
}

func TestSlowProxyKeepsTheRestOfTheURL(t *testing.T) {
	p, err := startSlowProxy(echo(t), 1000)
	require.NoError(t, err)
	defer p.stop()
	got, err := p.before("postgres://me:secret@127.0.0.1:5432/trades?sslmode=disable")
	require.NoError(t, err)
	require.Equal(t, "postgres://me:secret@"+p.ln.Addr().String()+"/trades?sslmode=disable", got)
	_, err = p.before("postgres://me:sec ret@%%")
	require.ErrorContains(t, err, "cannot read the URL")
	require.NotContains(t, err.Error(), "ret")
}
