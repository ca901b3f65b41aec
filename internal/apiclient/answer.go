package apiclient

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"tradestore/trade"
)

// Answer is an HTTP answer with its whole body.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// StatusLine is the status with its name: 503 Service Unavailable.
func (a Answer) StatusLine() string { return fmt.Sprintf("%d %s", a.Status, http.StatusText(a.Status)) }

// Temporary says whether the same call may be answered otherwise later: after 408, 429 and 5xx.
func (a Answer) Temporary() bool {
	return a.Status == http.StatusRequestTimeout || a.Status == http.StatusTooManyRequests || a.Status >= 500
}

// RetryAfter returns what the header of that name says, at most the limit given; 0 if it is missing or no number of
// seconds (RFC 9110, section 10.2.3, without the dates).
func (a Answer) RetryAfter(limit time.Duration) time.Duration {
	seconds, err := strconv.ParseUint(a.Header.Get("Retry-After"), 10, 32)
	if err != nil {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, limit)
}

// Decode reads the body, which is JSON, into a State, a Page, a Batch or a Problem. Errors: ErrUnexpected.
func (a Answer) Decode(into any) error {
	if err := json.Unmarshal(a.Body, into); err != nil {
		return fmt.Errorf("%w: %d %.100q: %w", ErrUnexpected, a.Status, a.Body, err)
	}
	return nil
}

// State is what the service shows of a request. What does not apply is empty.
type State struct {
	RequestID  string       `json:"request_id"`
	Status     trade.Status `json:"status"`
	TradeID    string       `json:"trade_id"`
	Version    int32        `json:"version"`
	Reason     trade.Code   `json:"reason"` // of FAILED
	Detail     string       `json:"detail"`
	AcceptedAt string       `json:"accepted_at"`
	DecidedAt  string       `json:"decided_at"`
}

// Item is one entry of a Page: a stored version, or in a history a decided submission.
type Item struct {
	State
	CounterpartyID string `json:"counterparty_id"`
	BookID         string `json:"book_id"`
	MaturityDate   string `json:"maturity_date"`
	CreatedDate    string `json:"created_date"`
	Expired        bool   `json:"expired"`
	Replaced       string `json:"replaced"` // in a history: the request whose version this one replaced
}

// Page is a list with what follows it.
type Page struct {
	Items      []Item  `json:"items"`
	Pending    []State `json:"pending"`     // of one trade: accepted and not decided yet
	NextCursor string  `json:"next_cursor"` // empty on the last page
}

// Batch is the answer to many trades, in their order.
type Batch struct {
	Items []struct {
		Status     int     `json:"status"`
		RequestID  string  `json:"request_id"`
		RetryAfter int     `json:"retry_after"` // seconds
		Problem    Problem `json:"problem"`
	} `json:"items"`
}

// Problem is what a refusal says (RFC 9457). Its member "status" repeats Answer.Status, and is not read: a gateway that
// answers for the service may have a text there.
type Problem struct {
	Code          trade.Code   `json:"code"`
	Title         string       `json:"title"`
	Detail        string       `json:"detail"`
	CorrelationID string       `json:"correlation_id"`
	RequestID     string       `json:"request_id"`
	Errors        []FieldError `json:"errors"`
}

// FieldError is one mistake in a trade.
type FieldError struct {
	Field  string     `json:"field"`
	Code   trade.Code `json:"code"`
	Detail string     `json:"detail"`
}

// Why tells in one line what is wrong.
func (p Problem) Why() string {
	if len(p.Errors) > 1 {
		parts := make([]string, len(p.Errors))
		for i, e := range p.Errors {
			parts[i] = e.Field + ": " + e.Detail
		}
		return strings.Join(parts, "; ")
	}
	if p.Detail != "" {
		return p.Detail
	}
	return p.Title
}
