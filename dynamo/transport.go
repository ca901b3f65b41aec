package dynamo

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// Limits of connections. A call that got no connection within its time limit was never sent.
const (
	dialLimit      = time.Second
	handshakeLimit = 2 * time.Second
	idleLimit      = 50 * time.Second
	keepAlive      = 15 * time.Second // finds a dead connection between calls
)

// transport sends the calls of the client. It follows no redirect and repeats no call that may have been received.
type transport struct {
	http  *http.Transport
	clock tableClock
}

func newTransport(conns int) *transport {
	dialer := &net.Dialer{Timeout: dialLimit, KeepAlive: keepAlive}
	return &transport{http: &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		TLSHandshakeTimeout:   handshakeLimit,
		MaxConnsPerHost:       conns,
		MaxIdleConns:          conns,
		MaxIdleConnsPerHost:   conns,
		IdleConnTimeout:       idleLimit,
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true, // the client sets its own encoding, whose checksum it can verify
	}}
}

// unsentError is the error of a call that got no connection: it certainly has no effect.
type unsentError struct{ err error }

func (e *unsentError) Error() string { return "not sent: " + e.err.Error() }

func (e *unsentError) Unwrap() error { return e.err }

// Do sends req. An unsentError means that nothing of it left this process.
func (t *transport) Do(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		body, err := io.ReadAll(req.Body)
		_ = req.Body.Close()
		if err != nil {
			return nil, &unsentError{fmt.Errorf("cannot read the body of the call: %w", err)}
		}
		// With GetBody, net/http uses another connection if an idle one was closed before a byte was written to it. It never
		// repeats a POST for any other reason.
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		req.Body, _ = req.GetBody()
	}
	var connected atomic.Bool
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }}
	resp, err := t.http.RoundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
	if err != nil && !connected.Load() {
		return nil, &unsentError{err}
	}
	if err == nil {
		t.clock.note(resp.Header)
	}
	return resp, err
}

// close closes the idle connections.
func (t *transport) close() { t.http.CloseIdleConnections() }
