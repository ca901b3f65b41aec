package server

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// kept is a connection of a client that keeps it.
type kept struct {
	net.Conn
	in *bufio.Reader
}

func (a *api) dial() *kept {
	a.t.Helper()
	conn, err := net.Dial("tcp", a.addr)
	require.NoError(a.t, err)
	a.t.Cleanup(func() { _ = conn.Close() })
	return &kept{conn, bufio.NewReader(conn)}
}

// ask sends a request and returns the status of its answer, 0 if the server has hung up.
func (c *kept) ask(t *testing.T, request string) int {
	t.Helper()
	require.NoError(t, c.SetDeadline(time.Now().Add(3*giveUpAfter)))
	if _, err := io.WriteString(c, message(request, "")); err != nil {
		return 0
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return 0
	}
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	return resp.StatusCode
}

// atWork counts the open connections that do not wait for a request.
func (l *conns) atWork() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.open {
		if c.idle.Load() == busy {
			n++
		}
	}
	return n
}

// Clients that keep connections and do not use them keep nobody out: the connection that has been idle longest goes.
// One whose call is under way stays, however old it is.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	t.Parallel()
	const most, more = 4, 10
	a := start(t, func(cfg *Config, _ *Deps) { cfg.MaxConns, cfg.evictIdle = most, time.Nanosecond })
	busy := a.dial()
	id := a.post(tradeJSON("T1", 1)).accepted(t)
	answered := make(chan int)
	go func() { answered <- busy.ask(t, "GET "+requestsPath+id.String()+" HTTP/1.1\n"+preferWait) }()
	a.waiting(1)
	a.client.CloseIdleConnections()
	var idle []*kept
	for range more {
		// Only the busy one is at work: the answer of the last one was seen by its client first.
		eventually(t, func() bool { return a.srv.conns.Load().count() < most && a.srv.conns.Load().atWork() == 1 })
		idle = append(idle, a.dial())
		require.Equal(t, 200, idle[len(idle)-1].ask(t, "GET /livez HTTP/1.1"), "a new client gets in")
	}
	counted(t, more-2, a.srv.m.connsEvicted) // one beside the busy one, and the last
	for i, c := range idle {
		want := 200
		if i < more-2 {
			want = 0
		}
		assert.Equal(t, want, c.ask(t, "GET /livez HTTP/1.1"), "the oldest %d are closed", more-2)
	}
	a.end(id, "SUCCESS")
	require.Equal(t, 200, <-answered)
	require.Zero(t, testutil.ToFloat64(a.srv.m.connsRefused[string(TooManyConnections)]))
}

// A request that comes at the moment when its connection is chosen is answered.
func TestARequestStopsTheEvictionOfItsConnection(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	c := a.dial()
	require.Equal(t, 200, c.ask(t, "GET /livez HTTP/1.1"))
	l := a.srv.conns.Load()
	l.mu.Lock()
	var open *conn
	for o := range l.open {
		if o.RemoteAddr().String() == c.LocalAddr().String() {
			open = o
		}
	}
	l.mu.Unlock()
	require.NotNil(t, open)
	eventually(t, func() bool { return open.idle.Load() != busy })
	l.mu.Lock()
	go func() {
		defer l.mu.Unlock()
		if !assert.Eventually(t, func() bool { return open.idle.Load() == busy }, giveUpAfter, time.Millisecond) {
			return
		}
		_ = open.Conn.SetReadDeadline(time.Now()) // as evict does, which the request has overtaken
	}()
	open.idle.Store(evicted)
	require.Equal(t, 200, c.ask(t, "GET /livez HTTP/1.1"), "the request was being read")
	require.Equal(t, 200, c.ask(t, "GET /livez HTTP/1.1"))
}
