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

// line is a connection to the target that is made again when it breaks. One operation at a time is on it.
type conn struct {
	plan    *Plan
	into    *Results
	timeout time.Duration
	dialer  *net.Dialer
	address string // host:port
	secure  *tls.Config
	base    string // of all paths
	host    string // header

	conn net.Conn // nil when there is none
	in   *bufio.Reader
	used time.Duration // when the last answer was read
	op   Op
	room []byte // for bodies to send
	out  []byte
	body []byte // of the answer
}

func newLine(target *url.URL, p *Plan, into *Results, timeout time.Duration) *conn {
	l := &conn{
		plan: p, into: into, timeout: timeout, dialer: &net.Dialer{Timeout: timeout},
		base: strings.TrimSuffix(target.EscapedPath(), "/"), host: target.Host, in: bufio.NewReaderSize(nil, 4096),
	}
	port := target.Port()
	if port == "" {
		port = "80"
	}
	if target.Scheme == "https" {
		if l.secure = (&tls.Config{ServerName: target.Hostname(), MinVersion: tls.VersionTLS12}); target.Port() == "" {
			port = "443"
		}
	}
	l.address = net.JoinHostPort(target.Hostname(), port)
	return l
}

func (l *conn) close() {
	if l.conn != nil {
		_ = l.conn.Close()
		l.conn = nil
	}
}

// send sends an operation, waits for its answer and adds the result.
func (l *conn) send(seq uint64, due time.Duration) {
	l.into.Sending()
	op := &l.op
	op.Body = l.room
	l.plan.Fill(op, seq)
	if op.Body != nil {
		l.room = op.Body
	}
	r := Result{Seq: seq, Kind: op.Kind, Due: due, BytesOut: uint32(len(op.Body)), Sent: l.into.Now()}
	if path, err := op.path(l.into); err != nil {
		r.failed(err, l.timeout)
	} else if status, err := l.exchange(path, r.Sent); err != nil {
		l.close()
		r.failed(err, l.timeout)
	} else {
		r.answered(status, l.body)
	}
	r.Done = l.into.Now()
	l.used = r.Done
	l.into.Add(r)
}

// exchange writes the request and reads the answer, whose body is in l.body then.
func (l *conn) exchange(path string, now time.Duration) (status int, err error) {
	if l.conn != nil && (now-l.used > idleLimit || l.in.Buffered() > 0) {
		l.close() // it may be closed at the other end, or holds what nobody has asked for
	}
	if err := l.connect(); err != nil {
		return 0, err
	}
	if err := l.conn.SetDeadline(l.into.Began().Add(now + l.timeout)); err != nil {
		return 0, err
	}
	if _, err := l.conn.Write(l.request(path)); err != nil {
		// A server that refuses a request before it has read all of it may have answered.
		if status, readErr := l.answer(); readErr == nil {
			l.close()
			return status, nil
		}
		return 0, err
	}
	return l.answer()
}

func (l *conn) connect() error {
	if l.conn != nil {
		return nil
	}
	conn, err := l.dialer.DialContext(context.Background(), "tcp", l.address) // as long as the timeout; an end of the attack leaves it alone
	if err != nil {
		return err
	}
	if l.secure != nil {
		conn = tls.Client(conn, l.secure)
	}
	l.conn = conn
	l.in.Reset(conn)
	return nil
}

// request writes the request of l.op into a buffer of the line.
func (l *conn) request(path string) []byte {
	b := append(append(l.out[:0], l.op.Method...), ' ')
	b = append(append(b, l.base...), path...)
	b = append(append(b, " HTTP/1.1\r\nHost: "...), l.host...)
	b = l.plan.appendNumber(append(b, "\r\nX-Correlation-ID: "...), l.op.Seq)
	if l.op.Body != nil {
		b = append(append(b, "\r\nContent-Type: "...), l.op.ContentType...)
		b = strconv.AppendInt(append(b, "\r\nContent-Length: "...), int64(len(l.op.Body)), 10)
	}
	l.out = append(append(b, "\r\n\r\n"...), l.op.Body...)
	return l.out
}

// errAnswer is returned for an answer that is not HTTP/1.1 with a Content-Length.
var errAnswer = errors.New("not an HTTP/1.1 answer that the light generator reads")

// headerLines bounds the header of an answer; each line fits the buffer of the reader.
const headerLines = 100

// answer reads one answer into l.body. Whatever the target sends, that ends: at the deadline at the latest.
func (l *conn) answer() (status int, err error) {
	status, err = l.status()
	if err != nil {
		return 0, err
	}
	length, last := -1, false
	for n := 0; ; n++ {
		header, err := l.headerLine()
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
	l.body = grown(l.body, length)
	if _, err := io.ReadFull(l.in, l.body); err != nil {
		return 0, err
	}
	if last {
		l.close()
	}
	return status, nil
}

// status reads the first line, like "HTTP/1.1 202 Accepted".
func (l *conn) status() (int, error) {
	first, err := l.headerLine()
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
func (l *conn) headerLine() ([]byte, error) {
	text, err := l.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, fmt.Errorf("%w: a header line is longer than %d bytes", errAnswer, l.in.Size())
	}
	if err != nil {
		return nil, err
	}
	return bytes.TrimRight(text, "\r\n"), nil
}

// grown returns a slice of n bytes, in the room of b if it is large enough.
func grown(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// is says whether a name or value is the lower-case one given.
func is(text []byte, want string) bool {
	return len(text) == len(want) && bytes.EqualFold(text, []byte(want))
}
