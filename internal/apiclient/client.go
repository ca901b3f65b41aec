// Package apiclient calls the HTTP API of Trade Store: one call, one answer. The caller decides when to call again.
package apiclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Paths of the API. A request id follows RequestsPath.
const (
	TradesPath   = "/api/v1/trades"
	BatchPath    = "/api/v1/trades:batch"
	RequestsPath = "/api/v1/requests/"
)

// MaxBody is the size of the longest answer that is read, in bytes. A page of MaxLimit items is much smaller.
const MaxBody = 16 << 20

// MaxLimit is the largest number of items on a Page.
const MaxLimit = 1000

// ErrNoAnswer is returned when a call got no whole HTTP answer. What the call did is unknown.
var ErrNoAnswer = errors.New("no answer")

// ErrUnexpected is returned for what the API never answers: something else listens there. Another call does not help.
var ErrUnexpected = errors.New("this is not an answer of Trade Store")

// Options say how a Client connects.
type Options struct {
	Conns     int               // most connections open at once; 0: no limit, and the idle ones are few
	Timeout   time.Duration     // of one call with its body; 0: only the context limits it
	Proxy     bool              // use the proxy that the environment names
	Transport http.RoundTripper // replaces the client's transport; Conns and Proxy are then ignored (Timeout applies)
}

// Client calls one service. It has connections of its own, and may be used concurrently.
type Client struct {
	base string // without a slash at the end
	http *http.Client
}

// New returns a client of the service at base, such as http://127.0.0.1:8000. It follows no redirects.
func New(base string, o Options) *Client {
	if o.Transport == nil {
		own := &http.Transport{
			MaxConnsPerHost: o.Conns, MaxIdleConns: o.Conns, MaxIdleConnsPerHost: o.Conns, IdleConnTimeout: 30 * time.Second,
			DisableCompression: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		}
		if o.Proxy {
			own.Proxy = http.ProxyFromEnvironment
		}
		o.Transport = own
	}
	return &Client{base: strings.TrimSuffix(base, "/"), http: &http.Client{
		Timeout: o.Timeout, Transport: o.Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close closes the connections that are idle.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Do makes one call. Header names are sent as they are spelled. Errors: ErrNoAnswer, ErrUnexpected.
func (c *Client) Do(ctx context.Context, method, path string, header http.Header, body []byte) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return Answer{}, fmt.Errorf("%w: %s %s: %w", ErrUnexpected, method, path, err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	res, err := c.http.Do(req)
	if err != nil {
		return Answer{}, fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(res.Body, MaxBody+1))
	if err != nil {
		return Answer{}, fmt.Errorf("%w: %s %s: body cut: %w", ErrNoAnswer, method, path, err)
	}
	if len(text) > MaxBody {
		return Answer{}, fmt.Errorf("%w: %s %s: %d with more than %d bytes", ErrUnexpected, method, path, res.StatusCode,
			MaxBody)
	}
	return Answer{Status: res.StatusCode, Header: res.Header, Body: text}, nil
}

// PostOptions are what a submission may say beside the trades. What is empty is not sent.
type PostOptions struct {
	Key           string        // idempotency key: the same call again, under the same key, is the same submission
	Wait          time.Duration // ask the service to hold the answer so long, in case the outcome is known by then
	CorrelationID string
	ReplayOf      string // the request that this one repeats
}

func (o PostOptions) header(contentType string) http.Header {
	h := http.Header{"Content-Type": {contentType}}
	for name, value := range map[string]string{
		"Idempotency-Key": o.Key, "Prefer": prefer(o.Wait), "X-Correlation-Id": o.CorrelationID,
		"Trade-Replay-Of": o.ReplayOf,
	} {
		if value != "" {
			h.Set(name, value)
		}
	}
	return h
}

func prefer(wait time.Duration) string {
	if wait < time.Second {
		return ""
	}
	return fmt.Sprintf("wait=%d", int(wait.Seconds()))
}

// PostTrade submits one trade, as JSON. Errors: as for Do.
func (c *Client) PostTrade(ctx context.Context, trade []byte, o PostOptions) (Answer, error) {
	return c.Do(ctx, http.MethodPost, TradesPath, o.header("application/json"), trade)
}

// PostTrades submits many trades in one call, as NDJSON. A 207 has a Batch. Errors: as for Do.
func (c *Client) PostTrades(ctx context.Context, lines []byte, o PostOptions) (Answer, error) {
	return c.Do(ctx, http.MethodPost, BatchPath, o.header("application/x-ndjson"), lines)
}

// Request reads the State of a request. The service may hold the answer for the time given, until the request is
// decided. Errors: as for Do.
func (c *Client) Request(ctx context.Context, id string, wait time.Duration) (Answer, error) {
	return c.get(ctx, RequestsPath+url.PathEscape(id), wait)
}

// Trade reads a Page of the stored versions of a trade. The cursor is the one of the page before, or empty. Errors: as
// for Do.
func (c *Client) Trade(ctx context.Context, tradeID, cursor string, limit int) (Answer, error) {
	return c.get(ctx, TradesPath+"/"+url.PathEscape(tradeID)+query(nil, cursor, limit), 0)
}

// History reads a Page of the decided submissions of a trade. The cursor is the one of the page before, or empty.
// Errors: as for Do.
func (c *Client) History(ctx context.Context, tradeID, cursor string, limit int) (Answer, error) {
	return c.get(ctx, TradesPath+"/"+url.PathEscape(tradeID)+"/history"+query(nil, cursor, limit), 0)
}

// Trades reads a Page of the trades that match the filter, which may be nil. Errors: as for Do.
func (c *Client) Trades(ctx context.Context, filter url.Values, cursor string, limit int) (Answer, error) {
	return c.get(ctx, TradesPath+query(filter, cursor, limit), 0)
}

func query(filter url.Values, cursor string, limit int) string {
	q := url.Values{"limit": {strconv.Itoa(limit)}}
	for name, values := range filter {
		q[name] = values
	}
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	return "?" + q.Encode()
}

func (c *Client) get(ctx context.Context, path string, wait time.Duration) (Answer, error) {
	var header http.Header
	if value := prefer(wait); value != "" {
		header = http.Header{"Prefer": {value}}
	}
	return c.Do(ctx, http.MethodGet, path, header, nil)
}

const (
	readyLimit    = 5 * time.Second
	longestReason = 1 << 10 // bytes; a role says in one line why it is not ready
)

// Ready asks the role at base whether it takes work: nil for a 200 of /readyz, else an error that says why not.
func Ready(ctx context.Context, base string) error {
	c := New(base, Options{Conns: 1, Timeout: readyLimit})
	defer c.Close()
	answer, err := c.Do(ctx, http.MethodGet, "/readyz", nil, nil)
	if err != nil {
		return err
	}
	if answer.Status != http.StatusOK {
		why := answer.Body[:min(len(answer.Body), longestReason)]
		return fmt.Errorf("%s/readyz answers %s: %s", c.base, answer.StatusLine(), bytes.TrimSpace(why))
	}
	return nil
}
