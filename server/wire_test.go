package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"tradestore/trade"
)

// message is an HTTP request as bytes. Lines of head are separated by \n.
func message(head, body string) string {
	return strings.ReplaceAll(head, "\n", "\r\n") + "\r\nHost: x\r\n\r\n" + body
}

func TestFraming(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	body := tradeJSON("T1", 1)
	length := fmt.Sprintf("\nContent-Length: %d", len(body))
	chunk := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	post := "POST /api/v1/trades HTTP/1.1\n" + jsonType
	f := func(head, body string, status int, code trade.Code, hangsUp bool) {
		t.Helper()
		r, closed := a.raw(message(head, body))
		if status == 202 {
			r.accepted(t)
		} else {
			r.problem(t, status, code)
		}
		assert.Equal(t, hangsUp, closed)
	}
	f(post+length, body, 202, "", false)
	f(post+"\nTransfer-Encoding: chunked", chunk, 202, "", false)
	f(post+length+"\nExpect: 100-continue", body, 202, "", false)
	f(post+length+"\nConnection: close", body, 202, "", true)
	f(post+length+"\nTransfer-Encoding: chunked", chunk, 400, MalformedHTTP, true)
	f(post+"\nTransfer-Encoding: chunked"+length, chunk, 400, MalformedHTTP, true)
	f(post+length+"\ntransfer-encoding: identity", body, 400, MalformedHTTP, true)
	f(post+length+length, body, 400, MalformedHTTP, true)
	f(post+"\nTransfer-Encoding: gzip, chunked", chunk, 400, MalformedHTTP, true)
	f(post+"\nTransfer-Encoding : chunked", chunk, 400, MalformedHTTP, true)
	f(post+length+"\nX-A: b\n c: d", body, 400, MalformedHTTP, true)
	f(post+"\nContent-Length: -1", body, 400, MalformedHTTP, true)
	f(post+"\nContent-Length: 0x10", body, 400, MalformedHTTP, true)
	f(post+"\nTransfer-Encoding: chunked", "zz\r\n", 400, MalformedHTTP, true)
	f("GET /livez HTTP/2.0", "", 400, MalformedHTTP, true)
	f("GET\x00/livez HTTP/1.1", "", 400, MalformedHTTP, true)
	f(post+"\nContent-Length: 16385", "", 413, BodyTooLarge, true)
	f(post+"\nTransfer-Encoding: chunked", "5000\r\n"+strings.Repeat(" ", 0x5000), 413, BodyTooLarge, true)
	f("GET /livez HTTP/1.1\nX-Long: "+strings.Repeat("x", 8<<10), "", 431, HeadersTooLarge, true)
	f("GET /livez?"+strings.Repeat("x", 9<<10)+" HTTP/1.1", "", 431, HeadersTooLarge, true)

	r, closed := a.raw("POST /api/v1/trades HTTP/1.1\nHost: x\nContent-Length: 0\n\n\r\n\r\n") // lines without CR
	r.problem(t, 400, MalformedHTTP)
	assert.True(t, closed)
}

// A client that goes on sending must still get to read why it was refused.
func TestLargeBodyStillGetsItsAnswer(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	head := "POST /api/v1/trades HTTP/1.1\n" + jsonType + "\nContent-Length: 200000"
	for range 20 {
		r, closed := a.raw(message(head, strings.Repeat("x", 200_000)))
		r.problem(t, 413, BodyTooLarge)
		assert.True(t, closed)
	}
}

func TestPathsAndMethods(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	a.stores.set(func() { a.stores.stored = []trade.Trade{tradeOf("T1", 1)} })
	f := func(line string, status int, code trade.Code) reply {
		t.Helper()
		r, _ := a.raw(message(line+" HTTP/1.1\nContent-Length: 0", ""))
		if code != "" {
			r.problem(t, status, code)
		}
		require.Equal(t, status, r.status)
		return r
	}
	f("GET /api/v1/trades/T1", 200, "")
	f("GET http://x/api/v1/trades/T1", 200, "")
	f("GET /api/v1/trades/T1/", 404, NotFound)
	f("GET /api/v1/trades/", 404, NotFound)
	f("GET /api/v1/Trades", 404, NotFound)
	f("GET /", 404, NotFound)
	f("GET /api/v1/trades/T1/x", 404, NotFound)
	f("GET /api/v1//trades", 400, InvalidPath)
	f("GET /api/v1/trades/%541", 400, InvalidPath)
	f("GET /api/v1/trades/..%2f..%2fetc", 400, InvalidPath)
	f("GET /api/v1/trades/T1%00", 400, InvalidPath)
	f("GET /api/v1/x/../trades", 400, InvalidPath)
	f("GET /api/v1/./trades", 400, InvalidPath)
	f("GET /api/v1/trades#x", 400, InvalidPath)
	f("GET /api/v1/trades/-T", 400, InvalidTradeID)
	f("GET /api/v1/trades/T*1", 400, InvalidTradeID)
	f("GET /api/v1/trades/"+strings.Repeat("T", 65), 400, InvalidTradeID)
	f("GET /api/v1/trades/"+strings.Repeat("T", 64), 404, NotFound)

	assert.Equal(t, "GET, HEAD, POST", f("DELETE /api/v1/trades", 405, MethodNotAllowed).header.Get("Allow"))
	assert.Equal(t, "GET, HEAD, POST", f("OPTIONS /api/v1/trades", 405, MethodNotAllowed).header.Get("Allow"))
	assert.Equal(t, "GET, HEAD", f("POST /api/v1/trades/T1", 405, MethodNotAllowed).header.Get("Allow"))
	assert.Equal(t, "GET, HEAD", f("BREW /livez", 405, MethodNotAllowed).header.Get("Allow"))
	f("OPTIONS *", 400, InvalidPath)

	head := a.send("HEAD", "/api/v1/trades/T1", "")
	assert.Equal(t, 200, head.status)
	assert.Empty(t, head.body)
	assert.NotEqual(t, "0", head.header.Get("Content-Length"))

	r, _ := a.raw(message("GET /livez HTTP/1.1\nContent-Length: 2", "{}"))
	r.problem(t, 400, UnexpectedBody)
	r, _ = a.raw(message("GET /livez HTTP/1.1\nTransfer-Encoding: chunked", "0\r\n\r\n"))
	r.problem(t, 400, UnexpectedBody)
}

func TestSlowClientsAreSentAway(t *testing.T) {
	a := start(t, func(cfg *Config, _ *Deps) {
		cfg.ReadTimeout, cfg.IdleTimeout = 100*time.Millisecond, 100*time.Millisecond
	})
	f := func(sent string) {
		t.Helper()
		r, closed := a.raw(sent)
		r.problem(t, 408, RequestTimeout)
		assert.True(t, closed)
	}
	f("POST /api/v1/trades HTTP/1.1\r\nHost")
	f("POST /api/v1/trades HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")

	silent, err := net.Dial("tcp", a.addr) // closed without a word, like the idle one below
	require.NoError(t, err)
	defer silent.Close()
	said, err := io.ReadAll(silent)
	require.NoError(t, err)
	assert.Empty(t, said)

	conn, err := net.Dial("tcp", a.addr)
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, message("GET /livez HTTP/1.1", ""))
	require.NoError(t, err)
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	assert.Equal(t, 200, read(resp).status)
	_, err = in.ReadByte()
	assert.ErrorIs(t, err, io.EOF)
}

func TestConnectionsAreLimited(t *testing.T) {
	t.Parallel()
	f := func(maxConns, perAddr, status int, code trade.Code) {
		t.Helper()
		a := start(t, func(cfg *Config, _ *Deps) { cfg.MaxConns, cfg.MaxConnsPerAddr = maxConns, perAddr })
		first, err := net.Dial("tcp", a.addr)
		require.NoError(t, err)
		eventually(t, func() bool { return a.srv.conns.Load().count() == 1 })
		second, err := net.Dial("tcp", a.addr)
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(second), nil) // refused before it has said anything
		require.NoError(t, err)
		r := read(resp)
		assert.Equal(t, status, r.status)
		assert.Equal(t, string(code), r.fields(t)["code"])
		assert.NotEmpty(t, r.header.Get("Retry-After"))
		counted(t, 1, a.srv.m.connsRefused[string(code)])
		first.Close()
		eventually(t, func() bool { return a.srv.conns.Load().count() == 0 })
		assert.Equal(t, 200, a.get("/livez").status)
	}
	f(1, 10, 503, TooManyConnections)
	f(10, 1, 429, TooManyRequests)
}

func TestAddressesAreCountedByWhatOneClientOwns(t *testing.T) {
	t.Parallel()
	f := func(remote, want string) {
		t.Helper()
		c := fakeConn{remote: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(remote))}
		assert.Equal(t, netip.MustParseAddr(want), addrOf(c))
	}
	f("192.0.2.7:1", "192.0.2.7")
	f("[::ffff:192.0.2.7]:1", "192.0.2.7")
	f("[2001:db8:1:2:3:4:5:6]:1", "2001:db8:1:2::")
	f("[fe80::1%eth0]:1", "fe80::")
	assert.False(t, addrOf(fakeConn{remote: &net.UnixAddr{}}).IsValid())
}

type fakeConn struct {
	net.Conn
	remote net.Addr
}

func (c fakeConn) RemoteAddr() net.Addr { return c.remote }

// A process without free descriptors must go on accepting when it has some again.
func TestAcceptOutlivesExhaustion(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	exhausted := &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	ln := &faultyListener{errs: []error{exhausted, exhausted, net.ErrClosed}}
	_, err := newConns(ln, &a.srv.cfg, a.srv.m).Accept()
	require.ErrorIs(t, err, net.ErrClosed)
	counted(t, 2, a.srv.m.acceptErrors)
}

// Deadlines are set seldom: each costs a lock and a timer.
func TestADeadlineIsSetWhenItMatters(t *testing.T) {
	t.Parallel()
	var d deadline
	f := func(wanted time.Duration, set bool) {
		t.Helper()
		called := false
		d.wanted = time.Time{}
		if wanted > 0 {
			d.wanted = testNow.Add(wanted)
		}
		require.NoError(t, d.apply(time.Second, func(at time.Time) error {
			called = true
			assert.Equal(t, d.wanted, at)
			return nil
		}))
		assert.Equal(t, set, called)
	}
	f(0, false) // none is wanted, and none is set
	f(10*time.Second, true)
	f(10*time.Second, false)
	f(10*time.Second+999*time.Millisecond, false)
	f(11*time.Second, true)
	f(11*time.Second-1, true) // never too late
	f(70*time.Second, true)
	f(5*time.Second, true)
	f(0, true)
	f(0, false)
	f(5*time.Second, true)
}

type faultyListener struct {
	net.Listener
	errs []error
}

func (l *faultyListener) Accept() (net.Conn, error) {
	err := l.errs[0]
	l.errs = l.errs[1:]
	return nil, err
}

func TestPanicInAHandlerIsA500AndTheServerLives(t *testing.T) {
	t.Parallel()
	a := start(t, func(_ *Config, deps *Deps) { deps.Trades = buggy{deps.Trades} })
	r, closed := a.raw(message("GET /api/v1/trades HTTP/1.1\nX-Correlation-ID: c-1", ""))
	assert.Equal(t, "c-1", r.problem(t, 500, Internal)["correlation_id"])
	assert.True(t, closed)
	counted(t, 1, a.srv.m.panics)
	a.post(tradeJSON("T1", 1)).accepted(t)
	assert.Contains(t, a.log.String(), "panic in a handler")
}

// buggy is a reader whose list panics.
type buggy struct{ TradeReader }

func (buggy) List(context.Context, trade.Filter, trade.Key, int) ([]trade.Trade, trade.Key, error) {
	panic("bug")
}

func TestWireErrors(t *testing.T) {
	t.Parallel()
	f := func(err error, code trade.Code, detail string) {
		t.Helper()
		p := ofWire(err, &Config{MaxHeaderBytes: 8192})
		assert.Equal(t, code, p.code)
		assert.Contains(t, p.detail, detail)
	}
	f(fasthttp.ErrBodyTooLarge, BodyTooLarge, "the setting max-body-bytes")
	f(&fasthttp.ErrSmallBuffer{}, HeadersTooLarge, "larger than 8192 bytes")
	f(fmt.Errorf("reading: %w", os.ErrDeadlineExceeded), RequestTimeout, "the setting read-timeout")
	f(errors.New("anything else"), MalformedHTTP, "HTTP/1.1")
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	f := func(lines string, want head) {
		t.Helper()
		assert.Equal(t, want, readHead([]byte(strings.ReplaceAll(lines, "\n", "\r\n")+"\r\n")))
	}
	f("", head{})
	f("X-Other: 1\n", head{})
	f("content-TYPE:\t a \n", head{contentType: "a", contentTypes: 1})
	f("Content-Type: a\nContent-Type: b\n", head{contentType: "b", contentTypes: 2})
	f("Content-Encoding:\nIdempotency-Key:\n", head{contentEncoding: true, idempotencyKeys: 1})
	f("Transfer-Encoding: chunked\n", head{chunked: true})
	f("X-Correlation-ID: a\nX-Correlation-ID: b\n", head{correlationID: "a"})

	g := func(value, want string) {
		t.Helper()
		assert.Equal(t, want, correlation([]byte(value), ""))
	}
	g("a", "a")
	g("", "")
	g("a b", "")
	g("a\x7f", "")
	g("é", "")
	g(strings.Repeat("x", 128), strings.Repeat("x", 128))
	g(strings.Repeat("x", 129), "")

	const good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	h := func(value string, ok bool) {
		t.Helper()
		assert.Equal(t, ok, traceParent([]byte(value)) == value, value)
	}
	h(good, true)
	h(strings.ToUpper(good), false)
	h(good[:54], false)
	h(good+"-x", false)
	h("01"+good[2:]+"-x", true)
	h("01"+good[2:]+"-x y", false)
	h("01"+good[2:]+"x", false)
	h("ff"+good[2:], false)
	h("00-"+strings.Repeat("0", 32)+good[35:], false)
	h(good[:36]+strings.Repeat("0", 16)+good[52:], false)
	h(strings.Replace(good, "-", "_", 1), false)
	h("xx"+good[2:], false)
	h("00-"+strings.Repeat("g", 32)+good[35:], false)
}
