package loadtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
	"unique"

	"github.com/goccy/go-json"

	"tradestore/trade"
)

// Generator sends the operations of a plan when they are due, whether or not earlier ones are answered, and adds each
// answer to the results. If all connections are busy an operation waits; its latency still counts from its due time.
//
// Attack returns after the last answer. When ctx ends it sends nothing more, waits for the answers to what was sent,
// and returns an error that wraps that of ctx. Operations that were not sent have no result. A target that does not
// answer is no error: it shows in the results.
type Generator interface {
	Name() string
	Attack(ctx context.Context, target *url.URL, p *Plan, s Schedule, into *Results) error
}

const (
	attackTimeout = 5 * time.Second  // of one operation, from when it is sent
	attackConns   = 1000             // at most; a server takes --max-conns-per-addr from one address
	idleLimit     = 10 * time.Second // of a connection before it is replaced: servers and balancers close idle ones
	answerLimit   = 1 << 20          // bytes of a body
)

// stopped returns the error of an attack that ended early, or nil.
func stopped(ctx context.Context, into *Results, total uint64) error {
	if sent := into.Count().Sent; sent < total && ctx.Err() != nil {
		return fmt.Errorf("attack stopped after %d of %d operations: %w", sent, total, ctx.Err())
	}
	return nil
}

// errNoRequest is why a ReadRequest was not sent.
var errNoRequest = errors.New("not sent: no request that could be read has been accepted yet")

// path returns the path; that of a ReadRequest needs a request id, which only the run knows.
func (op *Op) path(into *Results) (string, error) {
	if op.Kind != ReadRequest {
		return op.Path, nil
	}
	id, ok := into.Request(op.Of)
	if !ok {
		return "", errNoRequest
	}
	return op.Path + id.String(), nil
}

// answered fills in the answer. It keeps request ids only for POSTs.
func (r *Result) answered(status int, body []byte) {
	r.Status, r.BytesIn = uint16(status), uint32(len(body))
	if status < http.StatusBadRequest && (r.Kind.Reads() || status != http.StatusAccepted) {
		return
	}
	if status == http.StatusAccepted && r.accepted(body) {
		return
	}
	var said struct {
		Code      string `json:"code"`
		RequestID string `json:"request_id"`
	}
	_ = json.Unmarshal(body, &said) // a proxy's answer may be no JSON; then it has no code and no id
	if len(said.Code) <= 64 {
		r.Code = trade.Code(unique.Make(said.Code).Value()) // an overload repeats one code a million times
	}
	if !r.Kind.Reads() {
		r.Request, _ = trade.ParseRequestID(said.RequestID)
	}
	if status == http.StatusAccepted && r.Request.IsZero() {
		r.Err = "202 without a request id"
	}
}

// accepted reads the id of a 202 in the exact form of the service.
func (r *Result) accepted(body []byte) bool {
	const before, length = `{"request_id":"`, 36
	if len(body) < len(before)+length+1 || string(body[:len(before)]) != before || body[len(before)+length] != '"' {
		return false
	}
	id, err := trade.ParseRequestID(body[len(before) : len(before)+length])
	r.Request = id
	return err == nil
}

// failed fills in why there was no answer: the same text for the same failure.
func (r *Result) failed(err error, timeout time.Duration) {
	r.Err = unique.Make(reason(err, timeout)).Value()
}

func reason(err error, timeout time.Duration) string {
	var call *os.SyscallError
	var network *net.OpError
	var lookup *net.DNSError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "no answer within " + brief(timeout)
	case errors.As(err, &call):
		return call.Error() // like "connect: connection refused", without the addresses
	case errors.As(err, &lookup):
		return "cannot find the address of " + lookup.Name
	case errors.As(err, &network) && network.Err != nil:
		return network.Op + ": " + network.Err.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection closed before the answer was complete"
	}
	return fmt.Sprintf("%.200s", err.Error())
}
