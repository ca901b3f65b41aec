package contract

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"sync"
)

// Transport is an http.RoundTripper that checks each exchange. The body of an answer is read to its end first, unless
// it is a stream or a text, whose content is not described.
type Transport struct {
	Base   http.RoundTripper
	Report func(error) // called for an exchange that breaks the contract; from any goroutine

	mu   sync.Mutex
	seen map[string]bool // protected by mu: "METHOD path status"
}

// RoundTrip sends the request by Base. It adds no errors of its own.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	contract, err := Load()
	if err != nil {
		t.Report(err)
		return t.Base.RoundTrip(req)
	}
	x := Exchange{Method: req.Method, Target: req.URL.RequestURI(), Header: req.Header}
	if req.GetBody != nil && IsJSON(req.Header) {
		if body, err := req.GetBody(); err == nil {
			x.Body, _ = io.ReadAll(body) // it is in memory
		}
	}
	resp, err := t.Base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	x.Status, x.AnswerHeader = resp.StatusCode, resp.Header
	if IsJSON(resp.Header) {
		x.Answer, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(x.Answer), failing{err}))
		if err != nil {
			return resp, nil // the answer was cut: that is for the caller to meet
		}
	}
	if err := contract.Check(&x); err != nil {
		t.Report(err)
	}
	if op := contract.Find(req.Method, req.URL.Path); op != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.seen == nil {
			t.seen = map[string]bool{}
		}
		t.seen[op.Method+" "+op.Path+" "+strconv.Itoa(resp.StatusCode)] = true
	}
	return resp, nil
}

// CloseIdleConnections is passed on to Base.
func (t *Transport) CloseIdleConnections() {
	(&http.Client{Transport: t.Base}).CloseIdleConnections()
}

// Seen says whether an operation has answered with a status.
func (t *Transport) Seen(op *Operation, status string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seen[op.Method+" "+op.Path+" "+status]
}

// failing is what is left of a body that was cut.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	return 0, io.EOF
}
