package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"tradestore/internal/openapi/contract"
	"tradestore/trade"
)

// Document is a trade as JSON, written down a second time so that a slip in the product's own codec shows.
type Document struct {
	TradeID        string `json:"trade_id"`
	Version        int32  `json:"version"`
	CounterpartyID string `json:"counterparty_id"`
	BookID         string `json:"book_id"`
	MaturityDate   string `json:"maturity_date"`
	CreatedDate    string `json:"created_date"`
}

// DocumentOf returns t as a document.
func DocumentOf(t trade.Trade) Document {
	return Document{t.TradeID, t.Version, t.CounterpartyID, t.BookID, t.MaturityDate.String(), t.CreatedDate.String()}
}

// State is the answer of GET /api/v1/requests/{request_id}, as far as it may never change once it is terminal.
type State struct {
	RequestID trade.RequestID
	Status    trade.Status
	TradeID   string
	Version   int32
	Reason    trade.Code
}

// Problem is what every refusal carries.
type Problem struct {
	Status        int        `json:"status"`
	Code          trade.Code `json:"code"`
	Detail        string     `json:"detail"`
	CorrelationID string     `json:"correlation_id"`
	RequestID     string     `json:"request_id"`
	Errors        []struct {
		Field string     `json:"field"`
		Code  trade.Code `json:"code"`
	} `json:"errors"`
}

// ErrNoAnswer is returned when the call got no HTTP answer: refused, cut or too late.
var ErrNoAnswer = errors.New("no answer")

// ErrUnavailable is returned for a read that was answered 503, and may be repeated.
var ErrUnavailable = errors.New("unavailable")

// A read that is answered 503 on a starved machine is repeated for a while.
const (
	repeatEvery = 200 * time.Millisecond
	repeatLimit = time.Minute
)

// Client posts trades and reads their status. It may be used concurrently.
type Client struct {
	Ledger *Ledger
	HTTP   *http.Client

	bases atomic.Pointer[[]string] // http://host:port of each server in use
	calls atomic.Uint64            // they take the servers in turn
}

// NewClient returns a client that keeps up to conns connections to each server open. Exchanges that the description of
// the API does not allow go to the ledger.
func NewClient(l *Ledger, conns int, bases ...string) *Client {
	c := &Client{Ledger: l, HTTP: &http.Client{
		Timeout: 15 * time.Second, // far beyond the server's accept deadline: running into it is a fault
		Transport: &contract.Transport{
			Base:   &http.Transport{MaxIdleConns: conns * len(bases), MaxIdleConnsPerHost: conns, DisableCompression: true},
			Report: l.breach,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}}
	c.Use(bases...)
	return c
}

// Use says which servers, at least one, get the calls from now on: what a load balancer does by their readiness.
func (c *Client) Use(bases ...string) { c.bases.Store(&bases) }

// Answer is an HTTP answer with its whole body.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do sends one request. Errors: ErrNoAnswer.
func (c *Client) Do(ctx context.Context, method, path string, header http.Header, body []byte) (Answer, error) {
	bases := *c.bases.Load()
	base := bases[c.calls.Add(1)%uint64(len(bases))]
	req, err := http.NewRequestWithContext(ctx, method, base+path, bytes.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	res, err := c.HTTP.Do(req)
	if err != nil {
		return Answer{}, fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return Answer{}, fmt.Errorf("%w: body cut: %w", ErrNoAnswer, err)
	}
	return Answer{res.StatusCode, res.Header, answer}, nil
}

// Submit posts t once, never repeats it, and remembers the answer in the ledger.
func (c *Client) Submit(ctx context.Context, t trade.Trade) *Post {
	body, _ := json.Marshal(DocumentOf(t))
	p := &Post{Trade: t, CorrelationID: "corr-" + t.CounterpartyID, Sent: time.Now()}
	header := http.Header{"Content-Type": {"application/json"}, "X-Correlation-Id": {p.CorrelationID}}
	answer, err := c.Do(ctx, http.MethodPost, "/api/v1/trades", header, body)
	p.Answered = time.Now()
	if err == nil {
		var said struct {
			RequestID string     `json:"request_id"`
			Code      trade.Code `json:"code"`
		}
		_ = json.Unmarshal(answer.Body, &said) // an answer that is no JSON names neither an id nor a code
		p.Status, p.Code, p.RetryAfter = answer.Status, said.Code, answer.Header.Get("Retry-After")
		p.RequestID, _ = trade.ParseRequestID(said.RequestID)
	}
	c.Ledger.Add(p)
	return p
}

// SubmitBulk posts trades in one request, under a key unless that is empty, and remembers the answer of each in the ledger.
func (c *Client) SubmitBulk(ctx context.Context, key string, trades ...trade.Trade) []*Post {
	posts, lines := make([]*Post, len(trades)), []byte{}
	for i, t := range trades {
		posts[i] = &Post{Trade: t, CorrelationID: "corr-" + trades[0].CounterpartyID, Sent: time.Now(), Place: i}
		posts[i].Bulk = posts[0]
		line, _ := json.Marshal(DocumentOf(t))
		lines = append(append(lines, line...), '\n')
	}
	header := http.Header{"Content-Type": {"application/x-ndjson"}, "X-Correlation-Id": {posts[0].CorrelationID}}
	if key != "" {
		header.Set("Idempotency-Key", key)
	}
	answer, err := c.Do(ctx, http.MethodPost, "/api/v1/trades:batch", header, lines)
	var said struct {
		Items []struct {
			Status    int    `json:"status"`
			RequestID string `json:"request_id"`
			Retry     int    `json:"retry_after"`
			Problem   Problem
		}
		Code trade.Code
	}
	if err == nil {
		_ = json.Unmarshal(answer.Body, &said) // an answer that is no JSON says nothing about any trade
	}
	for i, p := range posts {
		p.Answered, p.Status, p.Code, p.RetryAfter = time.Now(), answer.Status, said.Code, answer.Header.Get("Retry-After")
		if answer.Status == http.StatusMultiStatus && i < len(said.Items) {
			item := said.Items[i]
			p.Status, p.Code = item.Status, item.Problem.Code
			p.RequestID, _ = trade.ParseRequestID(item.RequestID + item.Problem.RequestID) // one of the two is empty
			if item.Status != http.StatusAccepted && item.Retry == 0 {
				p.RetryAfter = ""
			}
		}
		c.Ledger.Add(p)
	}
	return posts
}

// Status reads a request and remembers a terminal state in the ledger. ok is false for 404.
// Errors: ErrNoAnswer, ErrUnavailable, or any other answer but 200 and 404.
func (c *Client) Status(ctx context.Context, id trade.RequestID) (s State, ok bool, err error) {
	answer, err := c.Do(ctx, http.MethodGet, "/api/v1/requests/"+id.String(), nil, nil)
	if err != nil {
		return State{}, false, err
	}
	switch answer.Status {
	case http.StatusNotFound:
		return State{}, false, nil
	case http.StatusOK:
	case http.StatusServiceUnavailable:
		return State{}, false, fmt.Errorf("cannot read request %s: %w: %.200s", id, ErrUnavailable, answer.Body)
	default:
		return State{}, false, fmt.Errorf("cannot read request %s: %d %.200s", id, answer.Status, answer.Body)
	}
	var said struct {
		RequestID string       `json:"request_id"`
		Status    trade.Status `json:"status"`
		TradeID   string       `json:"trade_id"`
		Version   int32        `json:"version"`
		Reason    trade.Code   `json:"reason"`
	}
	if err := json.Unmarshal(answer.Body, &said); err != nil {
		return State{}, false, fmt.Errorf("cannot read the status answer of %s: %w", id, err)
	}
	if said.RequestID != id.String() {
		return State{}, false, fmt.Errorf("asked for request %s, was shown %s", id, said.RequestID)
	}
	s = State{id, said.Status, said.TradeID, said.Version, said.Reason}
	c.Ledger.Observe(s)
	return s, true, nil
}

// PatientStatus is Status with the patience that ErrUnavailable asks for.
func (c *Client) PatientStatus(ctx context.Context, id trade.RequestID) (s State, ok bool, err error) {
	for began := time.Now(); ; {
		s, ok, err = c.Status(ctx, id)
		if !errors.Is(err, ErrUnavailable) || time.Since(began) > repeatLimit {
			return s, ok, err
		}
		select {
		case <-time.After(repeatEvery):
		case <-ctx.Done():
			return s, ok, err
		}
	}
}

// States reads every request that an answer of the ledger named, and those of others; one that GET does not know is
// absent.
func (c *Client) States(ctx context.Context, others []trade.RequestID) (map[trade.RequestID]State, error) {
	ask := map[trade.RequestID]bool{}
	for _, p := range c.Ledger.Posts() {
		ask[p.RequestID] = true
	}
	for _, id := range others {
		ask[id] = true
	}
	delete(ask, trade.RequestID{}) // of posts that got none
	var mu sync.Mutex
	states := make(map[trade.RequestID]State, len(ask))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for id := range ask {
		g.Go(func() error {
			s, ok, err := c.PatientStatus(ctx, id)
			if ok {
				mu.Lock()
				defer mu.Unlock()
				states[id] = s
			}
			return err
		})
	}
	return states, g.Wait()
}
