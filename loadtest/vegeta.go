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

// Vegeta is the generator that is vegeta, used as a library: an open loop with a worker for each operation under way.
type Vegeta struct {
	MaxWorkers uint64        // and connections; default 1000
	Timeout    time.Duration // of one operation; default 5 s
}

// Name returns "vegeta".
func (Vegeta) Name() string { return "vegeta" }

// Attack implements Generator.
func (v Vegeta) Attack(ctx context.Context, target *url.URL, p *Plan, s Schedule, into *Results) error {
	v.attack(ctx, target, p, 1, &pacer{ctx, s, into}, into, func(r *Result) { r.Due = s.At(r.Seq) })
	return stopped(ctx, into, s.Total())
}

// Closed is Light.Closed with vegeta: all its workers at once, each with its next operation as soon as the one before is
// answered.
func (v Vegeta) Closed(ctx context.Context, target *url.URL, p *Plan, hold time.Duration, into *Results) {
	v.attack(ctx, target, p, cmp.Or(v.MaxWorkers, attackConns), &unpaced{ctx, hold, into}, into, func(r *Result) { r.Due = r.Sent })
}

// attack runs vegeta until its pacer ends it. Workers is how many it begins with; due fills in when an operation was due.
func (v Vegeta) attack(ctx context.Context, target *url.URL, p *Plan, workers uint64, pace vegeta.Pacer, into *Results, due func(*Result)) {
	most := cmp.Or(v.MaxWorkers, attackConns)
	t := newTripper(target, p, into, int(most), cmp.Or(v.Timeout, attackTimeout))
	defer t.transport.CloseIdleConnections()
	attacker := vegeta.NewAttacker(
		vegeta.Workers(workers), vegeta.MaxWorkers(most), vegeta.MaxBody(answerLimit),
		vegeta.Client(&http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}),
	)
	defer context.AfterFunc(ctx, func() { attacker.Stop() })()
	for hit := range attacker.Attack(t.target, pace, 0, "") {
		r := t.result(hit)
		due(&r)
		into.Add(r)
	}
}

// pacer keeps vegeta to the schedule by the clock of the results, which started before vegeta's own.
type pacer struct {
	ctx  context.Context
	s    Schedule
	into *Results
}

// Pace waits itself: vegeta's sleep could not be interrupted.
func (p *pacer) Pace(_ time.Duration, hits uint64) (wait time.Duration, stop bool) {
	return 0, hits >= p.s.Total() || !waitUntil(p.ctx, p.into, p.s.At(hits))
}

func (p *pacer) Rate(elapsed time.Duration) float64 { return p.s.Rate(elapsed) }

// unpaced lets operations go as fast as workers take them, until the time is over.
type unpaced struct {
	ctx  context.Context
	hold time.Duration
	into *Results
}

func (p *unpaced) Pace(time.Duration, uint64) (wait time.Duration, stop bool) {
	return 0, p.into.Now() >= p.hold || p.ctx.Err() != nil
}

func (p *unpaced) Rate(time.Duration) float64 { return 0 }

// tripper turns vegeta's requests into those of the plan. Vegeta asks for targets in no order, but numbers its requests in
// the order of their times; the number is in a header.
type tripper struct {
	base      *url.URL
	plan      *Plan
	into      *Results
	timeout   time.Duration
	transport *http.Transport
}

func newTripper(target *url.URL, p *Plan, into *Results, conns int, timeout time.Duration) *tripper {
	transport := &http.Transport{
		MaxConnsPerHost: conns, MaxIdleConnsPerHost: conns, IdleConnTimeout: idleLimit, DisableCompression: true, Protocols: new(http.Protocols),
	}
	transport.Protocols.SetHTTP1(true) // and nothing else: one operation per connection
	return &tripper{base: target, plan: p, into: into, timeout: timeout, transport: transport}
}

const sequenceHeader = "X-Vegeta-Seq"

// target is vegeta's Targeter. What it names is replaced in RoundTrip.
func (t *tripper) target(next *vegeta.Target) error {
	next.Method, next.URL = http.MethodGet, t.base.String()
	return nil
}

// RoundTrip sends the operation that vegeta's request stands for and reads the whole answer.
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
	req := (&http.Request{Method: op.Method, URL: &to, ContentLength: int64(len(op.Body)), Header: http.Header{}}).WithContext(ctx)
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

// result is what vegeta measured, in our terms, but for when it was due.
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
