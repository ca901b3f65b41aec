package server

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/trade"
	"tradestore/trade/corpus"
)

// Each text of the corpus as a body is refused before any store is asked.
func TestCorpusAsBody(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	cases, err := corpus.Cases()
	require.NoError(t, err)
	for _, c := range cases {
		switch r := a.post(string(c.Doc)); {
		case len(c.Doc) > 16<<10:
			r.problem(t, 413, BodyTooLarge)
		case strings.HasPrefix(c.Name, "n_"):
			r.problem(t, 400, trade.MalformedJSON)
		default:
			assert.Equal(t, 400, r.status, c.Name)
		}
	}
	lookUps, opens := a.stores.calls()
	assert.Zero(t, lookUps)
	assert.Zero(t, opens)
}

// Each text in the place of a value and inside of a string is refused, or it is a trade, and then the log has it.
func TestCorpusInsideFields(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	cases, err := corpus.Cases()
	require.NoError(t, err)
	accepted := 0
	f := func(name, body string) {
		t.Helper()
		want := 413
		if len(body) <= 16<<10 {
			want = 400
			if good, bad := trade.Decode([]byte(body)); bad == nil && good.Validate(trade.DateOf(testNow)) == nil {
				want = 202
				accepted++
			}
		}
		require.Equal(t, want, a.post(body).status, name)
	}
	good := tradeJSON("T1", 1)
	for _, c := range cases {
		for _, value := range []string{`"T1"`, `1,`, `"CP-1"`, `"2026-11-22"`} {
			f(c.Name, strings.Replace(good, value, string(c.Doc), 1))
		}
		f(c.Name, strings.Replace(good, `"T1`, `"T1`+string(c.Doc), 1))
	}
	_, opens := a.stores.calls()
	assert.Equal(t, accepted, opens)
	a.records(accepted)
}

// Messages that two readers could read in two ways, or that never end. Behind each stands a second request: where the
// first one was refused, nothing may take that for a request of its own.
func TestMessagesThatDeceive(t *testing.T) {
	a := start(t, func(cfg *Config, _ *Deps) { cfg.ReadTimeout = 300 * time.Millisecond })
	const post = "POST /api/v1/trades HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
	const get = "GET /livez HTTP/1.1\r\nHost: x\r\n"
	const chunked = post + "Transfer-Encoding: chunked\r\n\r\n"
	body := tradeJSON("T1", 1)
	length := fmt.Sprintf("Content-Length: %d\r\n", len(body))
	f := func(name, sent string, status int, code trade.Code) {
		t.Helper()
		answers := a.conversation(sent + get + "\r\n")
		require.NotEmpty(t, answers, name)
		assert.Equal(t, status, answers[0].status, "%s: %s", name, answers[0].body)
		if code != "" {
			assert.Equal(t, string(code), answers[0].fields(t)["code"], name)
			assert.Len(t, answers, 1, "%s: the connection is closed", name)
		}
	}
	f("length beside chunked", post+length+"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, MalformedHTTP)
	f("two lengths", post+"Content-Length: 0\r\nContent-Length: 9\r\n\r\n", 400, MalformedHTTP)
	f("list of lengths", post+"Content-Length: 4, 4\r\n\r\nabcd", 400, MalformedHTTP)
	f("signed length", post+"Content-Length: +4\r\n\r\nabcd", 400, MalformedHTTP)
	f("length with a space", post+"Content-Length: 4 4\r\n\r\nabcd", 400, MalformedHTTP)
	f("length beyond 64 bits", post+"Content-Length: 18446744073709551617\r\n\r\n", 400, MalformedHTTP)
	f("empty length", post+"Content-Length:\r\n\r\n", 400, MalformedHTTP)
	twice := strings.Repeat("Transfer-Encoding: chunked\r\n", 2)
	f("chunked twice", post+twice+"\r\n0\r\n\r\n", 400, MalformedHTTP)
	f("chunked, chunked", post+"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400, MalformedHTTP)
	f("unknown coding", post+"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400, MalformedHTTP)
	f("coding behind a tab", post+"Transfer-Encoding:\tchunked, identity\r\n\r\n0\r\n\r\n", 400, MalformedHTTP)
	f("name with a space", post+"Content-Length : 4\r\n\r\nabcd", 400, MalformedHTTP)
	f("name with a control", post+"X\x01: 4\r\n\r\n", 400, MalformedHTTP)
	f("no name", post+": 4\r\n\r\n", 400, MalformedHTTP)
	f("no colon", post+"Nonsense\r\n\r\n", 400, MalformedHTTP)
	f("NUL in a value", post+"X-A: a\x00b\r\n\r\n", 400, MalformedHTTP)
	f("bare CR in a value", post+"X-A: a\rX-B: b\r\n\r\n", 400, MalformedHTTP)
	f("folded line", post+"X-A: a\r\n b\r\n\r\n", 400, MalformedHTTP)
	f("folded first line", "GET /livez HTTP/1.1\r\n X: a\r\nHost: x\r\n\r\n", 400, MalformedHTTP)
	f("lines end in LF", "GET /livez HTTP/1.1\nHost: x\n\n", 400, MalformedHTTP)
	f("one line ends in LF", get+"X-A: a\n\r\n", 400, MalformedHTTP)
	f("no host", "GET /livez HTTP/1.1\r\n\r\n", 400, MalformedHTTP)
	f("two hosts", get+"Host: y\r\n\r\n", 400, MalformedHTTP)
	f("HTTP/0.9", "GET /livez\r\n\r\n", 400, MalformedHTTP)
	f("HTTP/1.2", "GET /livez HTTP/1.2\r\nHost: x\r\n\r\n", 400, MalformedHTTP)
	f("preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, MalformedHTTP)
	f("TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, MalformedHTTP)
	f("chunk size beyond 64 bits", chunked+"10000000000000000\r\n", 400, MalformedHTTP)
	f("negative chunk size", chunked+"-1\r\n", 400, MalformedHTTP)
	f("chunk size with 0x", chunked+"0x4\r\nabcd\r\n0\r\n\r\n", 400, MalformedHTTP)
	f("chunk longer than said", chunked+"2\r\nabcd\r\n0\r\n\r\n", 400, MalformedHTTP)
	f("chunk ends in LF", chunked+"4\nabcd\n0\n\n", 400, MalformedHTTP)
	f("body too large", post+"Content-Length: 16385\r\n\r\n", 413, BodyTooLarge)
	f("chunks too large", chunked+strings.Repeat("1000\r\n"+strings.Repeat(" ", 0x1000)+"\r\n", 5), 413, BodyTooLarge)
	f("a thousand headers and more", get+strings.Repeat("X-A: b\r\n", 1100)+"\r\n", 431, HeadersTooLarge)
	f("header too long", get+"X-A: "+strings.Repeat("b", 8<<10)+"\r\n\r\n", 431, HeadersTooLarge)
	f("first line too long", "GET /"+strings.Repeat("b", 8<<10)+" HTTP/1.1\r\n\r\n", 431, HeadersTooLarge)
	f("headers without end", get+"X-A", 400, MalformedHTTP)
	f("body that does not come", post+"Content-Length: 1000\r\n\r\n{", 408, RequestTimeout)
	f("chunks that do not end", chunked+"400\r\n{", 408, RequestTimeout)
	lookUps, opens := a.stores.calls()
	assert.Zero(t, lookUps)
	assert.Zero(t, opens)

	f("absolute form", "GET http://other/livez HTTP/1.1\r\nHost: x\r\n\r\n", 200, "")
	extended := fmt.Sprintf("%s%x;%s\r\n%s\r\n0\r\n\r\n", chunked, len(body), strings.Repeat("x", 64<<10), body)
	f("huge chunk extension", extended, 202, "") // skipped, not stored
	f("a hundred headers", get+strings.Repeat("X-A: b\r\n", 100)+"\r\n", 200, "")
	f("trailer", chunked+fmt.Sprintf("%x;a=b\r\n%s\r\n0\r\n\r\n", len(body), body), 202, "")
}

// A client that stops in the middle, with half of the connection or all of it, costs a connection for a moment and
// nothing else.
func TestClientsThatStopInTheMiddle(t *testing.T) {
	t.Parallel()
	a := start(t, func(cfg *Config, _ *Deps) { cfg.ReadTimeout = time.Hour })
	body := tradeJSON("T1", 1)
	whole := message(fmt.Sprintf("POST /api/v1/trades HTTP/1.1\n%s\nContent-Length: %d", jsonType, len(body)), body)
	head := len(whole) - len(body)
	for _, sent := range []string{"", "P", whole[:30], whole[:head-2], whole[:head], whole[:len(whole)-1]} {
		for _, stop := range []func(*net.TCPConn) error{(*net.TCPConn).CloseWrite, (*net.TCPConn).Close} {
			conn, err := net.Dial("tcp", a.addr)
			require.NoError(t, err)
			_, err = io.WriteString(conn, sent)
			require.NoError(t, err)
			require.NoError(t, stop(conn.(*net.TCPConn)))
			eventually(t, func() bool { return a.srv.conns.Load().count() == 0 }, "%q", sent)
			conn.Close()
		}
	}
	lookUps, opens := a.stores.calls()
	assert.Zero(t, lookUps)
	assert.Zero(t, opens)
}

// conversation sends bytes and reads up to two answers, or until the server hangs up.
func (a *api) conversation(sent string) (answers []reply) {
	conn, err := net.Dial("tcp", a.addr)
	require.NoError(a.t, err)
	defer conn.Close()
	require.NoError(a.t, conn.SetDeadline(time.Now().Add(giveUpAfter)))
	go func() { _, _ = io.WriteString(conn, sent) }()
	for in := bufio.NewReader(conn); ; {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			require.NotErrorIs(a.t, err, net.ErrClosed)
			return answers
		}
		r := read(resp)
		if r.status >= 400 {
			a.checkRaw("", resp, r)
		}
		answers = append(answers, r)
		if len(answers) == 2 || resp.Close {
			return answers
		}
	}
}
