package loadtest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unique"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// Vegeta uses vegeta as a library: an open loop with one worker for each operation in flight.
type Vegeta struct {
	MaxWorkers uint64        // and connections; default 1000
	Timeout    time.Duration // of one operation; default 5 s
}

// Name returns "vegeta".
func (Vegeta) Name() string { return "vegeta" }

// Attack implements Generator.
func (v Vegeta) Attack(ctx context.Context, target *url.URL, p *Plan, s Schedule, into *Results) error {
	v.attack(ctx, target, p, 1, pacer(func(hits uint64) bool {
		return hits >= s.Total() || !waitUntil(ctx, into, s.At(hits)) // vegeta cannot interrupt its own sleep
	}), into, func(r *Result) { r.Due = s.At(r.Seq) })
	return stopped(ctx, into, s.Total())
}

// Closed is Light.Closed with vegeta: each worker sends its next operation when it has the answer.
func (v Vegeta) Closed(ctx context.Context, target *url.URL, p *Plan, hold time.Duration, into *Results) {
	v.attack(ctx, target, p, cmp.Or(v.MaxWorkers, attackConns), pacer(func(uint64) bool {
		return into.Now() >= hold || ctx.Err() != nil
	}), into, func(r *Result) { r.Due = r.Sent })
}

// attack runs vegeta until pace ends it. It starts with so many workers; due sets the due time of a result.
func (v Vegeta) attack(ctx context.Context, target *url.URL, p *Plan, workers uint64, pace vegeta.Pacer, into *Results,
	due func(*Result)) {
	most := cmp.Or(v.MaxWorkers, attackConns)
	t := newTripper(target, p, into, int(most), cmp.Or(v.Timeout, attackTimeout))
	defer t.transport.CloseIdleConnections()
	attacker := vegeta.NewAttacker(
		vegeta.Workers(workers), vegeta.MaxWorkers(most), vegeta.MaxBody(answerLimit),
		vegeta.Client(&http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}}),
	)
	defer context.AfterFunc(ctx, func() { attacker.Stop() })()
	for hit := range attacker.Attack(t.target, pace, 0, "") {
		r := t.result(hit)
		due(&r)
		into.Add(r)
	}
}

// pacer is a vegeta.Pacer: it waits until the next operation is due, and returns true at the end. It uses the clock of
// the results, which started before that of vegeta.
type pacer func(hits uint64) (stop bool)

// Pace implements vegeta.Pacer.
func (p pacer) Pace(_ time.Duration, hits uint64) (wait time.Duration, stop bool) { return 0, p(hits) }

// Rate implements vegeta.Pacer; an attack does not call it.
func (pacer) Rate(time.Duration) float64 { return 0 }

// tripper is an http.RoundTripper that replaces requests of vegeta with those of the plan. Vegeta calls its targeter in
// no order, but numbers its requests in time order in a header.
type tripper struct {
	base      *url.URL
	plan      *Plan
	into      *Results
	timeout   time.Duration
	transport *http.Transport
}

func newTripper(target *url.URL, p *Plan, into *Results, conns int, timeout time.Duration) *tripper {
	transport := &http.Transport{
		MaxConnsPerHost: conns, MaxIdleConnsPerHost: conns, IdleConnTimeout: idleLimit, DisableCompression: true,
		Protocols: new(http.Protocols),
	}
	transport.Protocols.SetHTTP1(true) // and nothing else: one operation per connection
	return &tripper{base: target, plan: p, into: into, timeout: timeout, transport: transport}
}

const sequenceHeader = "X-Vegeta-Seq"

// target is a vegeta.Targeter. RoundTrip replaces the target.
func (t *tripper) target(next *vegeta.Target) error {
	next.Method, next.URL = http.MethodGet, t.base.String()
	return nil
}

// RoundTrip sends the operation with the number of the request and reads the whole answer.
func (t *tripper) RoundTrip(hit *http.Request) (*http.Response, error) {
	seq, err := strconv.ParseUint(hit.Header.Get(sequenceHeader), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("vegeta's request has no number: %w", err)
	}
	t.into.Sending()
	op := t.plan.Op(seq)
	path, err := op.path(t.into)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(hit.Context(), t.timeout)
	defer cancel()
	to := *t.base
	to.Path = strings.TrimSuffix(to.Path, "/") + path
	req := (&http.Request{Method: op.Method, URL: &to, ContentLength: int64(len(op.Body)),
		Header: http.Header{}}).WithContext(ctx)
	req.Header.Set("X-Correlation-ID", t.plan.Correlation(seq))
	if op.Body != nil {
		req.Header.Set("Content-Type", op.ContentType)
		req.Body = io.NopCloser(bytes.NewReader(op.Body))
	}
	answer, err := t.transport.RoundTrip(req)
	if err != nil {
		return nil, errors.New(reason(err, t.timeout))
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(answer.Body, answerLimit))
	if err != nil {
		return nil, errors.New(reason(err, t.timeout))
	}
	whole := *answer
	whole.Body = io.NopCloser(bytes.NewReader(body))
	return &whole, nil
}

// result converts a result of vegeta; the due time is missing.
func (t *tripper) result(hit *vegeta.Result) Result {
	op := t.plan.Op(hit.Seq)
	sent := hit.Timestamp.Sub(t.into.Began())
	r := Result{Seq: hit.Seq, Kind: op.Kind, Sent: sent, Done: sent + hit.Latency, BytesOut: uint32(len(op.Body))}
	if hit.Code == 0 {
		_, why, _ := strings.Cut(hit.Error, `": `) // after `Get "URL": `
		r.Err = unique.Make(why).Value()
		return r
	}
	r.answered(int(hit.Code), hit.Body)
	return r
}
