package loadtest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"tradestore/internal/apiclient"
	"tradestore/trade"
)

// Pauses between two tries of a read that was not answered.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = time.Second
	longRetry  = 30 * time.Second // the longest Retry-After that is obeyed
)

// ErrAnswer is returned for an answer that the API does not give, such as another request than the one asked for.
// Asking again is no use.
var ErrAnswer = apiclient.ErrUnexpected

// errLater is wrapped in errors of single tries that are worth another one: no answer, 408, 429 and 5xx.
var errLater = errors.New("no answer now")

// State is what GET shows of a request.
type State struct {
	Status  trade.Status
	Reason  trade.Code // empty unless FAILED
	TradeID string
	Version int32
}

// API reads what a target shows. It has connections of its own, so that reading does not queue behind the load. It may
// be used concurrently.
type API struct{ client *apiclient.Client }

// NewAPI returns a reader that keeps up to conns connections open and gives a single try so much time.
func NewAPI(target *url.URL, conns int, timeout time.Duration) *API {
	return &API{apiclient.New(target.String(), apiclient.Options{Conns: conns, Timeout: timeout})}
}

// Close closes the connections that are idle.
func (a *API) Close() { a.client.Close() }

// Request returns what is shown of a request; ok is false for a 404. It tries until there is an answer or ctx ends, and
// waits as long as Retry-After says. Errors: ErrAnswer; any other means that the target did not answer in time.
func (a *API) Request(ctx context.Context, id trade.RequestID) (s State, ok bool, err error) {
	err = again(ctx, func() (wait time.Duration, err error) {
		s, ok, wait, err = a.describe(ctx, id)
		return wait, err
	})
	return s, ok, err
}

// describe is one try of Request. wait is what Retry-After says.
func (a *API) describe(ctx context.Context, id trade.RequestID) (s State, ok bool, wait time.Duration, err error) {
	answer, err := a.client.Request(ctx, id.String(), 0)
	var said apiclient.State
	if ok, wait, err = classify(answer, err, &said); err != nil || !ok {
		return State{}, false, wait, err
	}
	switch {
	case said.RequestID != id.String():
		return State{}, false, 0, fmt.Errorf("%w: asked for request %s, shown %q", ErrAnswer, id, said.RequestID)
	case said.Status != trade.Pending && !said.Status.Terminal():
		return State{}, false, 0, fmt.Errorf("%w: request %s has status %q", ErrAnswer, id, said.Status)
	}
	return State{said.Status, said.Reason, said.TradeID, said.Version}, true, 0, nil
}

// Trade returns the versions of a trade that are stored, in the order shown; none for a 404. It tries as Request does.
// Errors: as for Request.
func (a *API) Trade(ctx context.Context, tradeID string) (versions []trade.Trade, err error) {
	var all apiclient.Page
	for cursor, first := "", true; first || cursor != ""; first = false {
		err = again(ctx, func() (time.Duration, error) {
			answer, err := a.client.Trade(ctx, tradeID, cursor, apiclient.MaxLimit)
			var page apiclient.Page
			_, wait, err := classify(answer, err, &page)
			if err == nil {
				all.Items, cursor = append(all.Items, page.Items...), page.NextCursor
			}
			return wait, err
		})
		if err != nil {
			return nil, err
		}
	}
	if len(all.Items) == 0 {
		return nil, nil
	}
	return storedVersions(all, tradeID)
}

func storedVersions(said apiclient.Page, tradeID string) ([]trade.Trade, error) {
	versions := make([]trade.Trade, len(said.Items))
	for i, item := range said.Items {
		maturity, ok1 := trade.ParseDate(item.MaturityDate)
		created, ok2 := trade.ParseDate(item.CreatedDate)
		switch {
		case item.TradeID != tradeID:
			return nil, fmt.Errorf("%w: asked for trade %s, shown %q", ErrAnswer, tradeID, item.TradeID)
		case i > 0 && item.Version <= versions[i-1].Version:
			return nil, fmt.Errorf("%w: trade %s shows version %d behind version %d",
				ErrAnswer, tradeID, item.Version, versions[i-1].Version)
		case !ok1 || !ok2:
			return nil, fmt.Errorf("%w: trade %s shows dates %q and %q",
				ErrAnswer, tradeID, item.MaturityDate, item.CreatedDate)
		}
		versions[i] = trade.Trade{TradeID: item.TradeID, Version: item.Version, CounterpartyID: item.CounterpartyID,
			BookID: item.BookID, MaturityDate: maturity, CreatedDate: created}
	}
	return versions, nil
}

// classify reads the answer to one try; ok is false for a 404. Errors: errLater, ErrAnswer.
func classify(answer apiclient.Answer, err error, into any) (ok bool, wait time.Duration, _ error) {
	switch {
	case errors.Is(err, apiclient.ErrNoAnswer):
		return false, 0, fmt.Errorf("%w: %w", errLater, err)
	case err != nil:
		return false, 0, err
	case answer.Status == http.StatusOK:
		return true, 0, answer.Decode(into)
	case answer.Status == http.StatusNotFound:
		return false, 0, nil
	case answer.Temporary():
		return false, answer.RetryAfter(longRetry), fmt.Errorf("%w: %d %.200q", errLater, answer.Status, answer.Body)
	}
	return false, 0, fmt.Errorf("%w: %d %.200q", ErrAnswer, answer.Status, answer.Body)
}

// again calls try until it does not fail with errLater, or ctx ends.
func again(ctx context.Context, try func() (wait time.Duration, err error)) error {
	for least := firstPause; ; least = min(2*least, lastPause) {
		wait, err := try()
		if !errors.Is(err, errLater) {
			return err
		}
		if !Sleep(ctx, max(wait, least)) {
			return err
		}
	}
}

// Sleep waits for d and returns true, or false as soon as ctx ends.
func Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
