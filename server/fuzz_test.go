package server

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"tradestore/trade"
)

var statusLine = regexp.MustCompile(`HTTP/1\.1 \d{3} `)

// FuzzConnection feeds a connection with bytes. Whatever they are, no answer is a 5xx, and each one is well-formed.
func FuzzConnection(f *testing.F) {
	body := tradeJSON("T1", 1)
	for _, seed := range []string{
		message("POST /api/v1/trades HTTP/1.1\n"+jsonType+"\nContent-Length: 125", body),
		message("POST /api/v1/trades HTTP/1.1\n"+jsonType+"\nTransfer-Encoding: chunked", "7d\r\n"+body+"\r\n0\r\n\r\n"),
		message("POST /api/v1/trades HTTP/1.1\nContent-Length: 1\nTransfer-Encoding: chunked", "0\r\n\r\n"),
		message("POST /api/v1/trades HTTP/1.1\n"+jsonType+
			"\nIdempotency-Key: k\nExpect: 100-continue\nContent-Length: 2", "{}"),
		message("GET /api/v1/trades?limit=3&cursor=AQAAAAFUMQ HTTP/1.1", ""),
		message("GET /api/v1/trades/T1 HTTP/1.0\nConnection: keep-alive", "") + message("GET /livez HTTP/1.1", ""),
		message("HEAD /api/v1/requests/019e7c1a-5b7e-7c40-9f4e-3a1f0c2d4b6a HTTP/1.1\nX-Correlation-ID: c", ""),
		message("OPTIONS * HTTP/1.1", ""), message("GET /..%2f//%00 HTTP/1.1\n folded: x", ""),
		"GET / HTTP/1.1\nHost: x\n\n", "\r\n\r\n\x00", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	a := start(f, func(_ *Config, deps *Deps) { deps.Log = zerolog.Nop() })
	f.Fuzz(func(t *testing.T, sent []byte) {
		var answer bytes.Buffer
		_ = a.srv.http.ServeConn(&memoryConn{in: bytes.NewReader(sent), out: &answer})
		for out := bufio.NewReaderSize(&answer, 1<<20); ; {
			if _, err := out.Peek(1); err == io.EOF {
				return
			}
			// HEAD has no body; any other method would read one that is not there.
			head, err := http.ReadResponse(out, &http.Request{Method: http.MethodHead})
			if err != nil {
				t.Fatalf("answer can't be read: %v", err)
			}
			if head.StatusCode >= 500 {
				t.Fatalf("status %d", head.StatusCode)
			}
			rest, _ := out.Peek(out.Buffered())
			next := statusLine.FindIndex(rest)
			if next == nil {
				return
			}
			_, _ = out.Discard(next[0])
		}
	})
}

// FuzzPath asks for paths. What is answered with anything but a refusal is in its normal form, and an id in it is one
// that a trade can have.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{
		"/api/v1/trades/T1", "/api/v1//trades", "/api/v1/trades/%54", "/api/v1/x/../trades",
		"/api/v1/trades/" + strings.Repeat("T", 65), "/api/v1/requests/019e7c1a-5b7e-7c40-9f4e-3a1f0c2d4b6a",
		"/docs/init.js", "/docs/..%2f", "*", "http://x/livez", "//x/livez",
		"/livez?x", "/livez#x", "/\\livez", "/livez;x", "/\xff",
	} {
		f.Add(seed)
	}
	a := start(f, func(_ *Config, deps *Deps) { deps.Log = zerolog.Nop() })
	a.stores.set(func() { a.stores.stored = []trade.Trade{tradeOf("T1", 1)} })
	f.Fuzz(func(t *testing.T, target string) {
		var answer bytes.Buffer
		sent := "GET " + target + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
		_ = a.srv.http.ServeConn(&memoryConn{in: strings.NewReader(sent), out: &answer})
		resp, err := http.ReadResponse(bufio.NewReader(&answer), nil)
		if err != nil {
			return // nothing that looks like a request
		}
		_ = resp.Body.Close()
		if resp.StatusCode >= 500 {
			t.Fatalf("%q: status %d", target, resp.StatusCode)
		}
		if resp.StatusCode != http.StatusOK {
			return
		}
		path, _, _ := strings.Cut(target, "?")
		path = regexp.MustCompile(`^https?://[^/]*`).ReplaceAllString(path, "")
		if !regexp.MustCompile(`^(/[A-Za-z0-9][A-Za-z0-9._-]*)+$`).MatchString(path) {
			t.Fatalf("%q is granted", target)
		}
	})
}

// memoryConn is a connection whose client has said everything that it will say.
type memoryConn struct {
	in  io.Reader
	out io.Writer
}

func (c *memoryConn) Read(p []byte) (int, error)       { return c.in.Read(p) }
func (c *memoryConn) Write(p []byte) (int, error)      { return c.out.Write(p) }
func (c *memoryConn) Close() error                     { return nil }
func (c *memoryConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *memoryConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *memoryConn) SetDeadline(time.Time) error      { return nil }
func (c *memoryConn) SetReadDeadline(time.Time) error  { return nil }
func (c *memoryConn) SetWriteDeadline(time.Time) error { return nil }
