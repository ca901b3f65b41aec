package loadtest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// conn is a connection to the target that reconnects when it breaks. It carries one operation at a time.
type conn struct {
	plan    *Plan
	into    *Results
	timeout time.Duration
	dialer  *net.Dialer
	address string // host:port
	secure  *tls.Config
	base    string // of all paths
	host    string // header

	tcp           net.Conn // nil when there is none
	in            *bufio.Reader
	used          time.Duration // when the last answer was read
	op            Op
	bodyBuffer    []byte // for bodies to send
	requestBuffer []byte
	body          []byte // of the answer
}

func newConn(target *url.URL, p *Plan, into *Results, timeout time.Duration) *conn {
	c := &conn{
		plan: p, into: into, timeout: timeout, dialer: &net.Dialer{Timeout: timeout},
		base: strings.TrimSuffix(target.EscapedPath(), "/"), host: target.Host, in: bufio.NewReaderSize(nil, 4096),
	}
	port := target.Port()
	if port == "" {
		port = "80"
	}
	if target.Scheme == "https" {
		if c.secure = (&tls.Config{ServerName: target.Hostname(), MinVersion: tls.VersionTLS12}); target.Port() == "" {
			port = "443"
		}
	}
	c.address = net.JoinHostPort(target.Hostname(), port)
	return c
}

func (c *conn) close() {
	if c.tcp != nil {
		_ = c.tcp.Close()
		c.tcp = nil
	}
}

// send sends an operation, waits for its answer and adds the result.
func (c *conn) send(seq uint64, due time.Duration) {
	c.into.Sending()
	op := &c.op
	op.Body = c.bodyBuffer
	c.plan.Fill(op, seq)
	if op.Body != nil {
		c.bodyBuffer = op.Body
	}
	r := Result{Seq: seq, Kind: op.Kind, Due: due, BytesOut: uint32(len(op.Body)), Sent: c.into.Now()}
	if path, err := op.path(c.into); err != nil {
		r.failed(err, c.timeout)
	} else if status, err := c.exchange(path, r.Sent); err != nil {
		c.close()
		r.failed(err, c.timeout)
	} else {
		r.answered(status, c.body)
	}
	r.Done = c.into.Now()
	c.used = r.Done
	c.into.Add(r)
}

// exchange writes the request and reads the answer into c.body.
func (c *conn) exchange(path string, now time.Duration) (status int, err error) {
	if c.tcp != nil && (now-c.used > idleLimit || c.in.Buffered() > 0) {
		c.close() // the server may have closed it, or it has an unexpected answer
	}
	if err := c.connect(); err != nil {
		return 0, err
	}
	if err := c.tcp.SetDeadline(c.into.Began().Add(now + c.timeout)); err != nil {
		return 0, err
	}
	if _, err := c.tcp.Write(c.request(path)); err != nil {
		// A server that refuses a request before it has read all of it may have answered.
		if status, readErr := c.answer(); readErr == nil {
			c.close()
			return status, nil
		}
		return 0, err
	}
	return c.answer()
}

func (c *conn) connect() error {
	if c.tcp != nil {
		return nil
	}
	// context.Background: the end of the attack does not cancel an operation. The dialer has the timeout.
	conn, err := c.dialer.DialContext(context.Background(), "tcp", c.address)
	if err != nil {
		return err
	}
	if c.secure != nil {
		conn = tls.Client(conn, c.secure)
	}
	c.tcp = conn
	c.in.Reset(conn)
	return nil
}

// request writes the request of c.op into a buffer of the connection.
func (c *conn) request(path string) []byte {
	b := append(append(c.requestBuffer[:0], c.op.Method...), ' ')
	b = append(append(b, c.base...), path...)
	b = append(append(b, " HTTP/1.1\r\nHost: "...), c.host...)
	b = c.plan.appendNumber(append(b, "\r\nX-Correlation-ID: "...), c.op.Seq)
	if c.op.Body != nil {
		b = append(append(b, "\r\nContent-Type: "...), c.op.ContentType...)
		b = strconv.AppendInt(append(b, "\r\nContent-Length: "...), int64(len(c.op.Body)), 10)
	}
	c.requestBuffer = append(append(b, "\r\n\r\n"...), c.op.Body...)
	return c.requestBuffer
}

// errAnswer is returned for an answer that is not HTTP/1.1 with a Content-Length.
var errAnswer = errors.New("not an HTTP/1.1 answer that the light generator reads")

// headerLines bounds the header of an answer; each line fits the buffer of the reader.
const headerLines = 100

// answer reads one answer into c.body. It ends at the deadline at the latest, whatever the target sends.
func (c *conn) answer() (status int, err error) {
	status, err = c.status()
	if err != nil {
		return 0, err
	}
	length, last := -1, false
	for n := 0; ; n++ {
		header, err := c.headerLine()
		if err != nil {
			return 0, err
		}
		if len(header) == 0 {
			break
		}
		name, value, _ := bytes.Cut(header, []byte{':'})
		value = bytes.TrimSpace(value)
		switch {
		case n >= headerLines:
			return 0, fmt.Errorf("%w: more than %d header lines", errAnswer, headerLines)
		case is(name, "content-length"):
			if length, err = strconv.Atoi(string(value)); err != nil || length < 0 || length > answerLimit {
				return 0, fmt.Errorf("%w: Content-Length %.20q", errAnswer, value)
			}
		case is(name, "transfer-encoding"):
			return 0, fmt.Errorf("%w: Transfer-Encoding %.20q", errAnswer, value)
		case is(name, "connection"):
			last = last || is(value, "close")
		}
	}
	if length < 0 {
		return 0, fmt.Errorf("%w: no Content-Length", errAnswer)
	}
	c.body = resized(c.body, length)
	if _, err := io.ReadFull(c.in, c.body); err != nil {
		return 0, err
	}
	if last {
		c.close()
	}
	return status, nil
}

// status reads the first line, like "HTTP/1.1 202 Accepted".
func (c *conn) status() (int, error) {
	first, err := c.headerLine()
	if err != nil {
		return 0, err
	}
	if len(first) < 12 || string(first[:9]) != "HTTP/1.1 " {
		return 0, fmt.Errorf("%w: it begins with %.20q", errAnswer, first)
	}
	status, err := strconv.Atoi(string(first[9:12]))
	if err != nil || status < http.StatusOK || status > 599 {
		return 0, fmt.Errorf("%w: status %.20q", errAnswer, first[9:])
	}
	return status, nil
}

// headerLine returns the next line without its end. It is valid until the next read.
func (c *conn) headerLine() ([]byte, error) {
	text, err := c.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, fmt.Errorf("%w: a header line is longer than %d bytes", errAnswer, c.in.Size())
	}
	if err != nil {
		return nil, err
	}
	return bytes.TrimRight(text, "\r\n"), nil
}

// resized returns a slice of n bytes. It reuses b if b is large enough.
func resized(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// is compares a name or value with a lower-case one, ignoring case.
func is(text []byte, want string) bool {
	return len(text) == len(want) && bytes.EqualFold(text, []byte(want))
}
