package cmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"tradestore/internal/apiclient"
	"tradestore/trade"
)

// firstContact is how long a service is tried that has never answered: most likely the address is wrong.
const firstContact = 10 * time.Second

// sender submits trades until each has its answer. It may be used concurrently.
type sender struct {
	client  *client
	url     string
	giveUp  time.Duration // without a usable answer
	wait    bool          // for the outcome
	trouble progressText  // why something is tried again
}

func newSender(f clientFlags, conns int, giveUp time.Duration, wait bool) *sender {
	return &sender{client: newClient(f, conns), url: f.URL, giveUp: giveUp, wait: wait}
}

// post submits a trade, and follows it to its outcome if that is wanted. The options must have an idempotency key. What
// is learned is noted in r, whose status is UNKNOWN before. Once stop ends, the call under way is finished and no other
// made. Errors: no other trade has a better chance.
func (s *sender) post(stop context.Context, r *result, body []byte, o apiclient.PostOptions) error {
	if s.wait {
		o.Wait = s.client.wait
	}
	a, err := s.ask(stop, r, func(ctx context.Context) (*answer, error) {
		return s.client.read(s.client.PostTrade(ctx, body, o))
	})
	for pause := (backoff{}); a != nil; {
		if !a.ok() {
			r.Code, r.Detail = cut(string(a.problem.Code)), cut(a.problem.Why())
			if r.Status == unknown { // else it was accepted, and is forgotten by now: that is all there is to know
				r.Status = refused
			}
			return nil
		}
		r.Code, r.Detail = cut(string(a.Reason)), cut(a.Detail)
		status := a.State.Status
		_, nameless := trade.ParseRequestID(a.RequestID)
		if status != trade.Pending && !status.Terminal() || nameless != nil {
			return fmt.Errorf("%s: %w (--url)", s.url, apiclient.ErrUnexpected)
		}
		asked := r.Status == trade.Pending // before: the first look is made at once
		r.Status = status
		if status != trade.Pending || !s.wait || asked && !pause.sleep(stop, 0) {
			return nil
		}
		a, err = s.ask(stop, r, func(ctx context.Context) (*answer, error) { return s.client.request(ctx, r.RequestID) })
	}
	return err
}

// ask makes a call until there is an answer that another try would not change; nil once stop ends. A broken connection
// leaves open what a call did: it must be one that can be repeated. Errors: as for post.
func (s *sender) ask(stop context.Context, r *result, call func(context.Context) (*answer, error)) (*answer, error) {
	began := time.Now()
	for pause := (backoff{}); ; {
		a, err := call(context.WithoutCancel(stop))
		switch {
		case errors.Is(err, apiclient.ErrUnexpected):
			return nil, fmt.Errorf("%s: %w (--url)", s.url, err)
		case err != nil:
			a = &answer{}
			r.Code, r.Detail = "", cut(err.Error())
		default:
			r.RequestID = cmp.Or(cut(a.RequestID), cut(a.problem.RequestID), r.RequestID)
			if !a.later() {
				return a, nil
			}
			r.Code, r.Detail = cut(string(a.problem.Code)), cut(a.problem.Why())
		}
		s.trouble.set("trying again: %s %s", r.Code, r.Detail)
		limit := s.giveUp
		if !s.client.answered.Load() {
			limit = min(limit, firstContact)
		}
		if time.Since(began) >= limit {
			return nil, fmt.Errorf("no usable answer for %v (--give-up-after): %s", limit, r.Detail)
		}
		if !pause.sleep(stop, a.RetryAfter(longRetry)) {
			return nil, nil
		}
	}
}

// cut bounds a text of the service in the results.
func cut(text string) string { return text[:min(len(text), 500)] }
