package loadtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"tradestore/trade"
)

// Pauses between two tries of a read that was not answered.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = time.Second
	longRetry  = 30 * time.Second // the longest Retry-After that is obeyed
	maxAnswer  = 16 << 20         // bytes; a trade with very many versions is long
)

// ErrAnswer is returned for an answer that the API does not give, such as another request than the one asked for. Asking
// again is no use.
var ErrAnswer = errors.New("not an answer of the API")

// errLater is wrapped in errors of single tries that are worth another one: no answer, 408, 429 and 5xx.
var errLater = errors.New("no answer now")

// State is what GET shows of a request.
type State struct {
	Status  trade.Status
	Reason  trade.Code // empty unless FAILED
	TradeID string
	Version int32
}

// API reads what a target shows. It has connections of its own, so that reading does not queue behind the load. It may be
// used concurrently.
type API struct {
	base string // without a slash at the end
	http *http.Client
}

// NewAPI returns a reader that keeps up to conns connections open and gives a single try so much time.
func NewAPI(target *url.URL, conns int, timeout time.Duration) *API {
	return &API{base: strings.TrimSuffix(target.String(), "/"), http: &http.Client{
		Timeout:   timeout,
		Transport: &http.Transport{MaxConnsPerHost: conns, MaxIdleConnsPerHost: conns, MaxIdleConns: conns, DisableCompression: true, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}}
}

// Close closes the connections that are idle.
func (a *API) Close() { a.http.CloseIdleConnections() }

// Request returns what is shown of a request; ok is false for a 404. It tries until there is an answer or ctx ends, and
// waits as long as Retry-After says. Errors: ErrAnswer; any other means that the target did not answer in time.
func (a *API) Request(ctx context.Context, id trade.RequestID) (s State, ok bool, err error) {
	err = again(ctx, func() (wait time.Duration, err error) {
		s, ok, wait, err = a.describe(ctx, id)
		return wait, err
	})
	return s, ok, err
}

// look is one try of Request. wait is what Retry-After says.
func (a *API) describe(ctx context.Context, id trade.RequestID) (s State, ok bool, wait time.Duration, err error) {
	body, ok, wait, err := a.get(ctx, requestsPath+id.String())
	if err != nil || !ok {
		return State{}, false, wait, err
	}
	var said struct {
		RequestID string       `json:"request_id"`
		Status    trade.Status `json:"status"`
		Reason    trade.Code   `json:"reason"`
		TradeID   string       `json:"trade_id"`
		Version   int32        `json:"version"`
	}
	switch err := json.Unmarshal(body, &said); {
	case err != nil:
		return State{}, false, 0, fmt.Errorf("%w: request %s: %w", ErrAnswer, id, err)
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
	err = again(ctx, func() (time.Duration, error) {
		body, ok, wait, err := a.get(ctx, tradesPath+"/"+tradeID)
		if err == nil && ok {
			versions, err = decodeTrade(body, tradeID)
		}
		return wait, err
	})
	return versions, err
}

func decodeTrade(body []byte, tradeID string) ([]trade.Trade, error) {
	var said struct {
		Items []struct {
			TradeID        string `json:"trade_id"`
			Version        int32  `json:"version"`
			CounterpartyID string `json:"counterparty_id"`
			BookID         string `json:"book_id"`
			MaturityDate   string `json:"maturity_date"`
			CreatedDate    string `json:"created_date"`
		} `json:"items"`
	}
	if err := json.Unmarshal(body, &said); err != nil {
		return nil, fmt.Errorf("%w: trade %s: %w", ErrAnswer, tradeID, err)
	}
	versions := make([]trade.Trade, len(said.Items))
	for i, item := range said.Items {
		maturity, ok1 := trade.ParseDate(item.MaturityDate)
		created, ok2 := trade.ParseDate(item.CreatedDate)
		switch {
		case item.TradeID != tradeID:
			return nil, fmt.Errorf("%w: asked for trade %s, shown %q", ErrAnswer, tradeID, item.TradeID)
		case i > 0 && item.Version <= versions[i-1].Version:
			return nil, fmt.Errorf("%w: trade %s shows version %d behind version %d", ErrAnswer, tradeID, item.Version, versions[i-1].Version)
		case !ok1 || !ok2:
			return nil, fmt.Errorf("%w: trade %s shows dates %q and %q", ErrAnswer, tradeID, item.MaturityDate, item.CreatedDate)
		}
		versions[i] = trade.Trade{TradeID: item.TradeID, Version: item.Version, CounterpartyID: item.CounterpartyID, BookID: item.BookID,
			MaturityDate: maturity, CreatedDate: created}
	}
	return versions, nil
}

// get makes one try. ok is false for a 404. Errors: errLater, ErrAnswer.
func (a *API) get(ctx context.Context, path string) (body []byte, ok bool, wait time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.base+path, http.NoBody)
	if err != nil {
		return nil, false, 0, fmt.Errorf("%w: GET %s: %w", ErrAnswer, path, err)
	}
	res, err := a.http.Do(req)
	if err != nil {
		return nil, false, 0, fmt.Errorf("%w: %w", errLater, err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	switch {
	case err != nil:
		return nil, false, 0, fmt.Errorf("%w: GET %s: %w", errLater, path, err)
	case res.StatusCode == http.StatusOK:
		return body, true, 0, nil
	case res.StatusCode == http.StatusNotFound:
		return nil, false, 0, nil
	case res.StatusCode >= 500, res.StatusCode == http.StatusTooManyRequests, res.StatusCode == http.StatusRequestTimeout:
		return nil, false, RetryAfter(res.Header, longRetry), fmt.Errorf("%w: GET %s: %d %.200q", errLater, path, res.StatusCode, body)
	}
	return nil, false, 0, fmt.Errorf("%w: GET %s: %d %.200q", ErrAnswer, path, res.StatusCode, body)
}

// RetryAfter returns what the header of that name says, at most the limit given; 0 if it is missing or no number of seconds
// (RFC 9110, section 10.2.3, without the dates).
func RetryAfter(h http.Header, limit time.Duration) time.Duration {
	seconds, err := strconv.ParseUint(h.Get("Retry-After"), 10, 32)
	if err != nil {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, limit)
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
