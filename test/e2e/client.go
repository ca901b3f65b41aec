package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"tradestore/internal/apiclient"
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
	apiclient.Problem
	Status int `json:"status"` // as that of the answer
}

// ErrNoAnswer is returned when the call got no HTTP answer: refused, cut or too late.
var ErrNoAnswer = apiclient.ErrNoAnswer

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

	options apiclient.Options
	servers atomic.Pointer[[]*apiclient.Client] // those in use
	calls   atomic.Uint64                       // they take the servers in turn
}

// NewClient returns a client that keeps up to conns connections to each server open. Exchanges that the description of
// the API does not allow go to the ledger.
func NewClient(l *Ledger, conns int, bases ...string) *Client {
	c := &Client{Ledger: l, options: apiclient.Options{
		Timeout: 15 * time.Second, // far beyond the server's accept deadline: running into it is a fault
		Transport: &contract.Transport{
			Base:   &http.Transport{MaxIdleConns: conns * len(bases), MaxIdleConnsPerHost: conns, DisableCompression: true},
			Report: l.breach,
		},
	}}
	c.Use(bases...)
	return c
}

// Use says which servers, at least one, get the calls from now on: what a load balancer does by their readiness.
func (c *Client) Use(bases ...string) {
	servers := make([]*apiclient.Client, len(bases))
	for i, base := range bases {
		servers[i] = apiclient.New(base, c.options)
	}
	c.servers.Store(&servers)
}

// next is the server that gets the next call.
func (c *Client) next() *apiclient.Client {
	servers := *c.servers.Load()
	return servers[c.calls.Add(1)%uint64(len(servers))]
}

// Answer is an HTTP answer with its whole body.
type Answer = apiclient.Answer

// Do sends one request. Errors: ErrNoAnswer.
func (c *Client) Do(ctx context.Context, method, path string, header http.Header, body []byte) (Answer, error) {
	return c.next().Do(ctx, method, path, header, body)
}

// Submit posts t once, never repeats it, and remembers the answer in the ledger.
func (c *Client) Submit(ctx context.Context, t trade.Trade) *Post {
	body, _ := json.Marshal(DocumentOf(t))
	p := &Post{Trade: t, CorrelationID: "corr-" + t.CounterpartyID, Sent: time.Now()}
	answer, err := c.next().PostTrade(ctx, body, apiclient.PostOptions{CorrelationID: p.CorrelationID})
	p.Answered = time.Now()
	if err == nil {
		var said struct {
			RequestID string     `json:"request_id"`
			Code      trade.Code `json:"code"`
		}
		_ = answer.Decode(&said) // an answer that is no JSON names neither an id nor a code
		p.Status, p.Code, p.RetryAfter = answer.Status, said.Code, answer.Header.Get("Retry-After")
		p.RequestID, _ = trade.ParseRequestID(said.RequestID)
	}
	c.Ledger.Add(p)
	return p
}

// SubmitBulk posts trades in one request, under a key unless that is empty, and remembers the answer of each in the
// ledger.
func (c *Client) SubmitBulk(ctx context.Context, key string, trades ...trade.Trade) []*Post {
	posts, lines := make([]*Post, len(trades)), []byte{}
	for i, t := range trades {
		posts[i] = &Post{Trade: t, CorrelationID: "corr-" + trades[0].CounterpartyID, Sent: time.Now(), Place: i}
		posts[i].Bulk = posts[0]
		line, _ := json.Marshal(DocumentOf(t))
		lines = append(append(lines, line...), '\n')
	}
	answer, err := c.next().PostTrades(ctx, lines, apiclient.PostOptions{Key: key, CorrelationID: posts[0].CorrelationID})
	var said struct {
		apiclient.Batch
		Code trade.Code // of a refusal of all
	}
	if err == nil {
		_ = answer.Decode(&said) // an answer that is no JSON says nothing about any trade
	}
	for i, p := range posts {
		p.Answered, p.Status, p.Code, p.RetryAfter = time.Now(), answer.Status, said.Code, answer.Header.Get("Retry-After")
		if answer.Status == http.StatusMultiStatus && i < len(said.Items) {
			item := said.Items[i]
			p.Status, p.Code = item.Status, item.Problem.Code
			p.RequestID, _ = trade.ParseRequestID(item.RequestID + item.Problem.RequestID) // one of the two is empty
			if item.Status != http.StatusAccepted && item.RetryAfter == 0 {
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
	answer, err := c.next().Request(ctx, id.String(), 0)
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
	var said apiclient.State
	if err := answer.Decode(&said); err != nil {
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
