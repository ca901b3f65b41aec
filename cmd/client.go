// Package cli holds the commands for people: what they do with a running service, over its API as any other client would.
// What a service or a file says is hostile: it is bounded, and shown with its control characters written out.
package cmd

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"tradestore/loadtest"
)

// ClientConfig says where the service is.
type ClientConfig struct {
	URL     string        `name:"url" group:"network" default:"http://127.0.0.1:8000" help:"Base address of the service, http or https."`
	Timeout time.Duration `name:"timeout" group:"network" default:"10s" help:"Time limit for one answer."`
}

// Validate lists every mistake in the settings, one per line, each with its flag; nil if there is none.
func (c ClientConfig) Validate() error {
	var err error
	if u, bad := url.Parse(c.URL); bad != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		err = errors.New("--url: not a URL like http://127.0.0.1:8000")
	}
	if c.Timeout <= 0 {
		err = errors.Join(err, fmt.Errorf("--timeout: %v is not positive", c.Timeout))
	}
	return err
}

const (
	defaultURL   = "http://127.0.0.1:8000" // of ClientConfig, that of `make run`
	tradesPath   = "/api/v1/trades"
	requestsPath = "/api/v1/requests/"

	maxAnswer  = 16 << 20         // bytes; a trade with very many versions is long
	longRetry  = 60 * time.Second // the longest Retry-After that is obeyed
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
)

// client speaks to one service. It may be used concurrently.
type client struct {
	base     string // without a slash at the end
	http     *http.Client
	answered atomic.Bool // the service has answered before, whatever it said
	wait     string      // the value of Prefer that asks for an outcome instead of PENDING
}

func newClient(cfg ClientConfig, conns int) *client {
	return &client{
		base: strings.TrimSuffix(cfg.URL, "/"),
		wait: fmt.Sprintf("wait=%d", min(int(cfg.Timeout.Seconds()/2), 10)),
		http: &http.Client{
			Timeout: cfg.Timeout,
			Transport: &http.Transport{
				Proxy: http.ProxyFromEnvironment, MaxConnsPerHost: conns, MaxIdleConnsPerHost: conns, IdleConnTimeout: 30 * time.Second,
				DisableCompression: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// answer is what the service says to one call.
type answer struct {
	status int
	wait   time.Duration // what Retry-After says, 0 without it
	body   []byte        // JSON; nil if it was none
	document
}

// document has the members of all answers about requests, problems included. What does not apply is empty.
type document struct {
	RequestID  string `json:"request_id"`
	Status     status `json:"status"`
	TradeID    string `json:"trade_id"`
	Version    int64  `json:"version"`
	Reason     string `json:"reason"`
	Detail     string `json:"detail"`
	AcceptedAt string `json:"accepted_at"`
	DecidedAt  string `json:"decided_at"`

	Code          string `json:"code"`
	Title         string `json:"title"`
	CorrelationID string `json:"correlation_id"`
	Errors        []struct {
		Field  string `json:"field"`
		Code   string `json:"code"`
		Detail string `json:"detail"`
	} `json:"errors"`
}

// status is that of a request. In a problem document the member is a number, which is no state of a request.
type status string

func (s *status) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] != '"' {
		*s = ""
		return nil
	}
	return json.Unmarshal(text, (*string)(s))
}

// why tells in one line what a problem document says.
func (a *answer) why() string {
	text := a.Detail
	if len(a.Errors) > 1 {
		parts := make([]string, len(a.Errors))
		for i, e := range a.Errors {
			parts[i] = e.Field + ": " + e.Detail
		}
		text = strings.Join(parts, "; ")
	}
	if text == "" {
		text = a.Title
	}
	return text
}

// problem tells in one line what a refusal says.
func (a *answer) problem() string {
	if a.Code == "" {
		return fmt.Sprintf("%d %s", a.status, http.StatusText(a.status))
	}
	return a.Code + ": " + a.why()
}

// later says whether the same call may get another answer. With a key that holds for 409 too: the request is under way.
func (a *answer) later() bool {
	switch a.status {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return true
	}
	return a.status >= 500
}

// errAnswer is returned for an answer that this API does not give: something else listens there, and asking again is no use.
var errAnswer = errors.New("this is not an answer of Trade Store")

// call makes one call. Headers come as name and value in turn. Errors: errAnswer; any other means that there was no answer,
// so what the call did is unknown.
func (c *client) call(ctx context.Context, method, path string, body io.Reader, headers ...string) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errAnswer, err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	a := &answer{status: res.StatusCode, wait: loadtest.RetryAfter(res.Header, longRetry)}
	if a.body, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer)); err != nil {
		return nil, err
	}
	c.answered.Store(true)
	err = json.Unmarshal(a.body, &a.document)
	if err != nil && !a.later() {
		return nil, fmt.Errorf("%w: %s %s: %d %.100q", errAnswer, method, path, a.status, a.body)
	}
	if err != nil { // a proxy in between says 502 in its own words
		a.body, a.document = nil, document{}
	}
	return a, nil
}

// refusal is the end of a command whose question was not answered with a 2xx; nil if it was.
func (c ClientConfig) refusal(a *answer) error {
	switch {
	case a.status < 300:
		return nil
	case a.status == http.StatusNotFound:
		return &Exit{exitMissing, errors.New(a.problem())}
	case a.later():
		return &Exit{exitUnknown, fmt.Errorf("%s (%s)", a.problem(), c.URL)}
	case a.Code == "":
		return noAnswer(c.URL, fmt.Errorf("%w: %s", errAnswer, a.problem()))
	}
	return &Exit{exitNo, errors.New(a.problem())}
}

// get asks for what path shows. For a request, a service that can will hold the answer until it is decided.
func (c *client) get(ctx context.Context, path string) (*answer, error) {
	return c.call(ctx, http.MethodGet, path, http.NoBody, "Prefer", c.wait)
}

// backoff is how long to wait before the next try: longer each time, and never less than the service asks for. Jitter keeps
// calls that failed together from coming back together.
type backoff struct{ last time.Duration }

// sleep returns false as soon as ctx ends.
func (b *backoff) sleep(ctx context.Context, atLeast time.Duration) bool {
	b.last = min(max(2*b.last, firstPause), lastPause)
	return loadtest.Sleep(ctx, max(atLeast, b.last/2)+rand.N(b.last/2))
}
