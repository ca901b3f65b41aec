package loadtest

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// rawServer answers each connection with what serve writes, and closes it when serve returns.
func rawServer(t *testing.T, serve func(in *bufio.Reader, out net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(bufio.NewReader(c), c)
			}()
		}
	}()
	return "http://" + ln.Addr().String()
}

// readRequest reads one request to its end.
func readRequest(in *bufio.Reader) error {
	r, err := http.ReadRequest(in)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r.Body)
	return err
}

// Whatever a server sends, each operation ends: with an answer or with the reason why there is none.
func TestLightReadsAnswersStrictly(t *testing.T) {
	f := func(answer string, status int, fault string) {
		t.Helper()
		target := rawServer(t, func(in *bufio.Reader, out net.Conn) {
			for readRequest(in) == nil {
				_, _ = io.WriteString(out, answer)
			}
		})
		into := NewResults(time.Now())
		s := schedule(t, "1000/2ms", 0)
		err := Light{Connections: 1, Timeout: 100 * time.Millisecond}.Attack(t.Context(), parseURL(t, target),
			NewPlan("r1", 1, Mix{Past: 1}, 1, 0), s, into)
		require.NoError(t, err)
		require.Len(t, collected(into), 2)
		for _, r := range collected(into) {
			require.EqualValues(t, status, r.Status, r.Err)
			if fault == "" {
				require.Empty(t, r.Err)
			} else {
				require.Contains(t, r.Err, fault)
			}
		}
	}
	const unreadable = "not an HTTP/1.1 answer that the light generator reads: "
	f("HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}", 400, "")
	f("HTTP/1.1 400 \r\ncontent-LENGTH:2\r\nConnection: Close\r\n\r\n{}", 400, "")
	f("HTTP/1.1 200 OK\nContent-Length: 0\n\n", 200, "")
	// unasked for: never taken for the next answer
	f("HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n", 400, "")
	f("HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 0,
		unreadable+`Transfer-Encoding "chunked"`)
	f("HTTP/1.1 400 Bad Request\r\n\r\n{}", 0, unreadable+"no Content-Length")
	f("HTTP/1.1 400 Bad Request\r\nContent-Length: 3x\r\n\r\n{}", 0, unreadable+`Content-Length "3x"`)
	f("HTTP/1.1 400 Bad Request\r\nContent-Length: -1\r\n\r\n{}", 0, unreadable+`Content-Length "-1"`)
	f("HTTP/1.1 400 Bad Request\r\nContent-Length: 1048577\r\n\r\n{}", 0, unreadable+`Content-Length "1048577"`)
	f("HTTP/1.0 400 Bad Request\r\nContent-Length: 0\r\n\r\n", 0, unreadable+"it begins with")
	f("HTTP/1.1 1xx\r\nContent-Length: 0\r\n\r\n", 0, unreadable+"status")
	f("HTTP/1.1 100 Continue\r\n\r\n", 0, unreadable+"status")
	f("SSH-2.0-server\r\n", 0, unreadable+"it begins with")
	f(strings.Repeat("x", 5000), 0, unreadable+"a header line is longer than 4096 bytes")
	f("HTTP/1.1 200 OK\r\n"+strings.Repeat("X: y\r\n", 102), 0, unreadable+"more than 100 header lines")
	f("HTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\n\r\n{}", 0, "no answer within 100ms")
	f("HTTP/1.1 400 Bad", 0, "no answer within 100ms")
	f("", 0, "no answer within 100ms")
}

func TestLightReplacesIdleConnections(t *testing.T) {
	w := newFake(t, NewPlan("r1", 1, Mix{New: 1}, 1, 0), 3)
	into := NewResults(time.Now())
	l := newConn(w.url, w.plan, into, time.Second)
	defer l.close()
	l.send(0, 0)
	l.send(1, 0)
	assert.Equal(t, 1, w.connections())
	l.used = into.Now() - idleLimit - 1
	l.send(2, 0)
	assert.Equal(t, 2, w.connections())
	assert.EqualValues(t, 3, into.Count().Accepted)
}

// A server may answer and close before it has read the whole body, as ours does when a body is too large.
func TestLightSeesAnswersThatComeEarly(t *testing.T) {
	target := rawServer(t, func(in *bufio.Reader, out net.Conn) {
		_, _ = in.ReadString('\n')
		_, _ = io.WriteString(out, "HTTP/1.1 413 Request Entity Too Large\r\nContent-Length: 2\r\nConnection: "+
			"close\r\n\r\n{}")
		_ = out.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, in)
	})
	into := NewResults(time.Now())
	s := schedule(t, "1000/100ms", 0)
	require.NoError(t, Light{}.Attack(t.Context(), parseURL(t, target), NewPlan("r1", 1, Mix{Bad: 1}, 1, 0), s, into))
	for _, r := range collected(into) {
		require.EqualValues(t, 413, r.Status, r.Err)
	}
}

func TestLightSpeaksTLS(t *testing.T) {
	p := NewPlan("r1", 1, Mix{New: 1}, 1, 0)
	w := newFake(t, p, 2)
	srv := httptest.NewTLSServer(w)
	t.Cleanup(srv.Close)
	into := NewResults(time.Now())
	l := newConn(parseURL(t, srv.URL), p, into, time.Second)
	defer l.close()
	l.send(0, 0)
	first, _ := into.Get(0)
	require.Contains(t, first.Err, "certificate", "a server that nobody vouches for is not trusted")
	l.secure.RootCAs = srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	l.send(1, 0)
	second, _ := into.Get(1)
	require.EqualValues(t, 202, second.Status, second.Err)
	require.Equal(t, uint16(tls.VersionTLS12), l.secure.MinVersion)
}

func TestLightAddresses(t *testing.T) {
	f := func(target, address, host, base string) {
		t.Helper()
		l := newConn(parseURL(t, target), nil, nil, 0)
		require.Equal(t, []string{address, host, base}, []string{l.address, l.host, l.base})
	}
	f("http://127.0.0.1:8000", "127.0.0.1:8000", "127.0.0.1:8000", "")
	f("http://store.test/", "store.test:80", "store.test", "")
	f("https://store.test/a/b/", "store.test:443", "store.test", "/a/b")
	f("http://[::1]:80", "[::1]:80", "[::1]:80", "")
}
