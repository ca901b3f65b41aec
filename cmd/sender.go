package cmd

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

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
	trouble line          // why something is tried again
}

func newSender(cfg ClientConfig, conns int, giveUp time.Duration, wait bool) *sender {
	return &sender{client: newClient(cfg, conns), url: cfg.URL, giveUp: giveUp, wait: wait}
}

// post submits a trade, and follows it to its outcome if that is wanted. Headers are name and value in turn; they must have
// an idempotency key. What is learned is noted in r, whose status is UNKNOWN before. Once stop ends, the call under way is
// finished and no other made. Errors: no other trade has a better chance.
func (s *sender) post(stop context.Context, r *result, body []byte, headers ...string) error {
	headers = append(headers, "Content-Type", "application/json")
	if s.wait {
		headers = append(headers, "Prefer", s.client.wait)
	}
	a, err := s.ask(stop, r, func(ctx context.Context) (*answer, error) {
		return s.client.call(ctx, http.MethodPost, tradesPath, bytes.NewReader(body), headers...)
	})
	for pause := (backoff{}); a != nil; {
		_, nameless := trade.ParseRequestID(a.RequestID)
		r.Code, r.Detail = cut(a.Code+a.Reason), cut(a.why())
		switch {
		case a.status >= 300 && r.Status == unknown:
			r.Status = refused
			return nil
		case a.status >= 300: // such as a request that is forgotten: it was accepted, and that is all there is to know
			return nil
		case a.Status != pending && a.Status != success && a.Status != failed, nameless != nil:
			return fmt.Errorf("%s: %w (--url)", s.url, errAnswer)
		}
		asked := r.Status == pending // before: the first look is made at once
		r.Status = a.Status
		if r.Status != pending || !s.wait || asked && !pause.sleep(stop, 0) {
			return nil
		}
		a, err = s.ask(stop, r, func(ctx context.Context) (*answer, error) { return s.client.get(ctx, requestsPath+r.RequestID) })
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
		case errors.Is(err, errAnswer):
			return nil, fmt.Errorf("%s: %w (--url)", s.url, err)
		case err != nil:
			a = &answer{}
			r.Code, r.Detail = "", cut(err.Error())
		default:
			r.RequestID = cmp.Or(cut(a.RequestID), r.RequestID)
			if !a.later() {
				return a, nil
			}
			r.Code, r.Detail = cut(a.Code), cut(a.why())
		}
		s.trouble.set("trying again: %s %s", r.Code, r.Detail)
		limit := s.giveUp
		if !s.client.answered.Load() {
			limit = min(limit, firstContact)
		}
		if time.Since(began) >= limit {
			return nil, fmt.Errorf("no usable answer for %v (--give-up-after): %s", limit, r.Detail)
		}
		if !pause.sleep(stop, a.wait) {
			return nil, nil
		}
	}
}

// cut bounds a text of the service in the results.
func cut(text string) string { return text[:min(len(text), 500)] }
