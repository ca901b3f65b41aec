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

// How connections are made and kept. A call that waits longer for one than its own time limit was never sent.
const (
	dialLimit      = time.Second
	handshakeLimit = 2 * time.Second
	idleLimit      = 50 * time.Second
	keepAlive      = 15 * time.Second // a silent death is noticed between calls rather than by one
)

// transport carries the calls of the client. It follows no redirect and repeats nothing that may have been read.
type transport struct {
	http *http.Transport
}

func newTransport(conns int) *transport {
	dialer := &net.Dialer{Timeout: dialLimit, KeepAlive: keepAlive}
	return &transport{&http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		TLSHandshakeTimeout:   handshakeLimit,
		MaxConnsPerHost:       conns,
		MaxIdleConns:          conns,
		MaxIdleConnsPerHost:   conns,
		IdleConnTimeout:       idleLimit,
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true, // the client asks for what it can check
	}}
}

// unsentError is the error of a call that no connection carried: it certainly has no effect.
type unsentError struct{ err error }

func (e *unsentError) Error() string { return "not sent: " + e.err.Error() }

func (e *unsentError) Unwrap() error { return e.err }

// Do sends req. An error that is an unsentError says that nothing of it left this process.
func (t *transport) Do(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		body, err := io.ReadAll(req.Body)
		_ = req.Body.Close()
		if err != nil {
			return nil, &unsentError{fmt.Errorf("cannot read the body of the call: %w", err)}
		}
		// With GetBody, net/http moves a call to another connection when an idle one turns out to be closed and not one
		// byte was written to it. It never repeats a POST beyond that.
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		req.Body, _ = req.GetBody()
	}
	var connected atomic.Bool
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }}
	resp, err := t.http.RoundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
	if err != nil && !connected.Load() {
		return nil, &unsentError{err}
	}
	return resp, err
}

// close ends the connections that carry nothing now.
func (t *transport) close() { t.http.CloseIdleConnections() }
