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
	most := cmp.Or(v.MaxWorkers, attackConns)
	t := newTripper(target, p, into, int(most), cmp.Or(v.Timeout, attackTimeout))
	defer t.transport.CloseIdleConnections()
	attacker := vegeta.NewAttacker(
		vegeta.Workers(1), vegeta.MaxWorkers(most), vegeta.MaxBody(answerLimit),
		vegeta.Client(&http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}),
	)
	defer context.AfterFunc(ctx, func() { attacker.Stop() })()
	for hit := range attacker.Attack(t.target, &pacer{ctx, s, into}, 0, "") {
		into.Add(t.result(hit, s))
	}
	return stopped(ctx, into, s.Total())
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
	place := *t.base
	place.Path = strings.TrimSuffix(place.Path, "/") + path
	req := (&http.Request{Method: op.Method, URL: &place, ContentLength: int64(len(op.Body)), Header: http.Header{}}).WithContext(ctx)
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

// result is what vegeta measured, in our terms.
func (t *tripper) result(hit *vegeta.Result, s Schedule) Result {
	op := t.plan.Op(hit.Seq)
	sent := hit.Timestamp.Sub(t.into.Began())
	r := Result{Seq: hit.Seq, Kind: op.Kind, Due: s.At(hit.Seq), Sent: sent, Done: sent + hit.Latency, BytesOut: uint32(len(op.Body))}
	if hit.Code == 0 {
		_, why, _ := strings.Cut(hit.Error, `": `) // after `Get "URL": `
		r.Err = unique.Make(why).Value()
		return r
	}
	r.answered(int(hit.Code), hit.Body)
	return r
}
