package dynamo

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// proxy stands between the client and DynamoDB and injects faults.
type proxy struct {
	url    string
	target string

	mu     sync.Mutex // protects what follows
	faults map[string][]fault
	calls  map[string]int // that arrived, by operation
	date   time.Time      // the header Date of the answers; zero: none, so that the time is the one of the test alone
}

// setDate sets the clock of DynamoDB as its answers show it.
func (p *proxy) setDate(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.date = now
}

// header is the Date header of the answers, nil for none.
func (p *proxy) dateHeader() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.date.IsZero() {
		return nil
	}
	return []string{p.date.UTC().Format(http.TimeFormat)}
}

// fault answers one call in place of DynamoDB.
type fault func(c *passing)

func times(n int, f fault) []fault { return slices.Repeat([]fault{f}, n) }

// passing is a call on its way through the proxy.
type passing struct {
	w       http.ResponseWriter
	r       *http.Request
	body    []byte
	through *proxy
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	p := &proxy{target: target, faults: make(map[string][]fault), calls: make(map[string]int)}
	front := httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(front.Close)
	p.url = front.URL
	return p
}

// next injects faults into the next calls of an operation, one fault each.
func (p *proxy) next(op string, faults ...fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults[op] = append(p.faults[op], faults...)
}

// count returns how many calls of an operation arrived.
func (p *proxy) count(op string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls[op]
}

func (p *proxy) take(op string) fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls[op]++
	queue := p.faults[op]
	if len(queue) == 0 {
		return nil
	}
	p.faults[op] = queue[1:]
	return queue[0]
}

func (p *proxy) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	c := &passing{w: w, r: r, body: body, through: p}
	if f := p.take(op); f != nil {
		f(c)
		return
	}
	c.pass()
}

// forward sends the call to DynamoDB. It ignores the time limit of the client.
func (c *passing) forward() (status int, header http.Header, body []byte) {
	out, err := http.NewRequest(c.r.Method, c.through.target, bytes.NewReader(c.body))
	if err != nil {
		return http.StatusBadGateway, nil, nil
	}
	out.Header = c.r.Header.Clone()
	resp, err := http.DefaultClient.Do(out)
	if err != nil {
		return http.StatusBadGateway, nil, nil
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return http.StatusBadGateway, nil, nil
	}
	return resp.StatusCode, resp.Header, answer
}

func (c *passing) answer(status int, header http.Header, body []byte) {
	for name, values := range header {
		if name != "Content-Length" {
			c.w.Header()[name] = values
		}
	}
	c.w.Header()["Date"] = c.through.dateHeader()
	c.w.WriteHeader(status)
	_, _ = c.w.Write(body)
}

func (c *passing) pass() { c.answer(c.forward()) }

// reset ends the connection without an answer.
func (c *passing) reset() { panic(http.ErrAbortHandler) }

// The faults. Those with "after" happen when DynamoDB has done what was asked.

func resetBefore(c *passing) { c.reset() }

func resetAfter(c *passing) {
	c.forward()
	c.reset()
}

func errorAfter(c *passing) {
	c.forward()
	refuse(http.StatusInternalServerError, "InternalServerError")(c)
}

// refuse answers an error without asking DynamoDB.
func refuse(status int, code string) fault {
	return func(c *passing) {
		c.answer(status, jsonHeader,
			[]byte(`{"__type":"com.amazonaws.dynamodb.v20120810#`+code+`","message":"as the test wants it"}`))
	}
}

// jsonHeader is the header of an answer of DynamoDB.
var jsonHeader = http.Header{"Content-Type": {"application/x-amz-json-1.0"}}

var throttle = refuse(http.StatusBadRequest, "ProvisionedThroughputExceededException")

// truncated ends the connection in the middle of a good answer.
func truncated(c *passing) {
	status, header, body := c.forward()
	c.w.Header().Set("Content-Length", header.Get("Content-Length"))
	c.w.WriteHeader(status)
	_, _ = c.w.Write(body[:len(body)/2])
	_ = http.NewResponseController(c.w).Flush()
	c.reset()
}

// late holds a call until release is closed and lets it arrive then; arrived is closed when it has. The client is gone.
func late(release <-chan struct{}, arrived chan<- struct{}) fault {
	return func(c *passing) {
		defer close(arrived)
		<-release
		c.forward()
		c.reset()
	}
}

func TestProxyPasses(t *testing.T) {
	echo := func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }
	back := httptest.NewServer(http.HandlerFunc(echo))
	t.Cleanup(back.Close)
	p := newProxy(t, back.URL)
	resp, err := http.Post(p.url, "text/plain", strings.NewReader("hello"))
	require.NoError(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "hello", string(answer))
}
