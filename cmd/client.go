package cmd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"tradestore/internal/apiclient"
	"tradestore/loadtest"
)

// clientFlags say where the service is. What the service says is hostile: it is bounded, and its control characters are
// written out.
type clientFlags struct {
	URL     string        `name:"url" group:"network" default:"http://127.0.0.1:8000" help:"Base address of the service, http or https."`
	Timeout time.Duration `name:"timeout" group:"network" default:"10s" help:"Time limit for one answer."`
}

// Validate lists every mistake in the settings, one per line, each with its flag; nil if there is none.
func (f clientFlags) Validate() error {
	var err error
	u, bad := url.Parse(f.URL)
	if bad != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		err = errors.New("--url: not a URL like http://127.0.0.1:8000")
	}
	if f.Timeout <= 0 {
		err = errors.Join(err, fmt.Errorf("--timeout: %v is not positive", f.Timeout))
	}
	return err
}

const (
	defaultURL  = "http://127.0.0.1:8000" // of clientFlags, that of `make run`
	longestWait = 10 * time.Second        // that a service is asked to hold an answer

	longRetry  = 60 * time.Second // the longest Retry-After that is obeyed
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
)

// client calls one service. It may be used concurrently.
type client struct {
	*apiclient.Client
	wait     time.Duration // for an outcome instead of PENDING
	answered atomic.Bool   // the service has answered before, whatever it said
}

func newClient(f clientFlags, conns int) *client {
	return &client{
		Client: apiclient.New(f.URL, apiclient.Options{Conns: conns, Timeout: f.Timeout, Proxy: true}),
		wait:   min(f.Timeout/2, longestWait),
	}
}

// answer is what the service says to one call: a state, or a problem.
type answer struct {
	apiclient.Answer
	apiclient.State
	problem apiclient.Problem
	isJSON  bool
}

// read reads the answer to a call. Errors: those of the call, and apiclient.ErrUnexpected.
func (c *client) read(said apiclient.Answer, err error) (*answer, error) {
	if err != nil {
		return nil, err
	}
	c.answered.Store(true)
	a := &answer{Answer: said}
	if a.ok() {
		err = a.Decode(&a.State)
	} else {
		err = a.Decode(&a.problem)
	}
	if err != nil && !a.later() { // a proxy may answer 502 with a body that is not JSON
		return nil, err
	}
	a.isJSON = err == nil
	return a, nil
}

// request asks for a request. A service that can do so holds the answer until the request is decided.
func (c *client) request(ctx context.Context, id string) (*answer, error) {
	return c.read(c.Request(ctx, id, c.wait))
}

func (a *answer) ok() bool { return a.Answer.Status < 300 }

// later says whether the same call may get another answer. A 409 under an idempotency key is also temporary: the first
// request is not decided yet.
func (a *answer) later() bool { return a.Temporary() || a.Answer.Status == http.StatusConflict }

// refusal tells in one line what a problem document says.
func (a *answer) refusal() string {
	if a.problem.Code == "" {
		return a.StatusLine()
	}
	return string(a.problem.Code) + ": " + a.problem.Why()
}

// refused is the end of a command whose question was not answered with a 2xx; nil if it was.
func (f clientFlags) refused(a *answer) error {
	switch {
	case a.ok():
		return nil
	case a.Answer.Status == http.StatusNotFound:
		return &exitError{exitMissing, errors.New(a.refusal())}
	case a.later():
		return &exitError{exitUnknown, fmt.Errorf("%s (%s)", a.refusal(), f.URL)}
	case a.problem.Code == "":
		return f.noAnswer(fmt.Errorf("%w: %s", apiclient.ErrUnexpected, a.refusal()))
	}
	return &exitError{exitFailed, errors.New(a.refusal())}
}

// noAnswer is the end of a command that could not learn what it asked for.
func (f clientFlags) noAnswer(err error) error {
	return &exitError{exitUnknown, fmt.Errorf("%w (--url %s)", err, f.URL)}
}

// backoff is how long to wait before the next try: longer each time, and never less than the service asks for. Jitter
// keeps calls that failed together from coming back together.
type backoff struct{ last time.Duration }

// sleep returns false as soon as ctx ends.
func (b *backoff) sleep(ctx context.Context, atLeast time.Duration) bool {
	b.last = min(max(2*b.last, firstPause), lastPause)
	return loadtest.Sleep(ctx, max(atLeast, b.last/2)+rand.N(b.last/2))
}
