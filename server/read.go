package server

import (
	"context"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"tradestore/trade"
)

// getRequest answers GET /api/v1/requests/{request_id}. Members that don't apply are left out: reason and detail unless
// FAILED, decided_at while PENDING, trade_id and version for a record that could not be read, stored_version and
// stored_by unless STALE_VERSION. Only an outcome may be cached.
func (s *Server) getRequest(c *call, _ query) {
	state, ok := s.requested(c)
	if !ok {
		return
	}
	ended := state.Status.Terminal()
	if !ended {
		var outcome trade.RequestState
		if outcome, ended = s.wait(c, state.ID); ended {
			state = outcome
		}
	}
	var room [512]byte
	body := s.appendState(room[:0], &state)
	if ended {
		c.validated(body)
		return
	}
	c.setRetryAfter(s.lag.retryAfter())
	c.json(fasthttp.StatusOK, body)
}

// requested returns the request that the path names; ok is false if it has refused the call.
func (s *Server) requested(c *call) (state trade.RequestState, ok bool) {
	id, err := trade.ParseRequestID(c.param("request_id"))
	if err != nil {
		c.refuse(problem{code: InvalidRequestID, detail: err.Error()})
		return state, false
	}
	c.requestID = id
	ctx, cancel := s.storeContext()
	defer cancel()
	if state, err = s.requests.Get(ctx, id); err != nil {
		c.refuseRead(err, "there is no such request")
		return state, false
	}
	injectStatus(&state)
	return state, true
}

// appendState writes the state of a request, and for a stale version what is stored instead.
func (s *Server) appendState(dst []byte, state *trade.RequestState) []byte {
	dst = appendState(dst, state)
	if state.Reason == trade.StaleVersion {
		ctx, cancel := s.storeContext()
		defer cancel()
		dst = appendStored(dst, s.stored(ctx, state.TradeID))
	}
	return append(dst, '}')
}

// stored returns the highest stored version of a trade; nothing on an error: the answer is complete without it.
func (s *Server) stored(ctx context.Context, tradeID string) trade.Stored {
	newest, err := s.trades.Newest(ctx, []string{tradeID})
	if err != nil {
		s.failures.Warn().Err(err).Str("trade_id", tradeID).Msg("cannot read what is stored instead of a stale version")
	}
	return newest[tradeID]
}

// maxPending bounds the requests that are shown as pending for a trade.
const maxPending = 100

// getTrade answers GET /api/v1/trades/{trade_id} with a page of the versions of the trade, ascending. The first page
// shows PENDING requests if nothing is stored, so that an accepted trade is not a 404, or on request: they cost more to
// find than the versions.
func (s *Server) getTrade(c *call, q query) {
	id, ok := c.pathTradeID()
	if !ok {
		return
	}
	if _, given := q[paramAsOf]; given {
		if q[paramPending] != "" {
			c.refuse(problem{code: InvalidQuery, detail: "as_of, pending: give one of them"})
			return
		}
		s.getTradeAsOf(c, id, q)
		return
	}
	if text := q[paramPending]; text != "" && text != "true" && text != "false" {
		c.refuse(problem{code: InvalidQuery, detail: "pending: true or false"})
		return
	}
	scope := versionScope(id, time.Time{})
	limit, after, bad := q.versions(scope)
	if bad != nil {
		c.refuse(*bad)
		return
	}
	ctx, cancel := s.storeContext()
	defer cancel()
	var pending []trade.PendingRequest
	trades, next, err := s.trades.Versions(ctx, id, after, limit)
	if err == nil && after == 0 && (len(trades) == 0 || q[paramPending] == "true") {
		pending = s.pendingOf(ctx, c, id)
	}
	if err == nil && len(trades)+len(pending) == 0 {
		trades, next, err = s.trades.Versions(ctx, id, after, limit) // a pending one may have been stored meanwhile
		if err == nil && len(trades) == 0 {
			err = trade.ErrNotFound
		}
	}
	if err != nil {
		c.refuseRead(err, "no version of the trade is stored")
		return
	}
	body := appendItems(aboutTrade(id, 256*len(trades)), trades, trade.DateOf(s.now()))
	if len(pending) > 0 {
		body = appendPending(body, pending)
	}
	c.validated(append(appendNextVersion(body, scope, next), '}'))
}

// aboutTrade starts a document about one trade, with room for more bytes. pathTradeID has checked the id.
func aboutTrade(id string, room int) []byte {
	body := append(make([]byte, 0, 256+room), `{"trade_id":"`...)
	return append(append(body, id...), `",`...)
}

// pendingOf returns the PENDING requests of a trade; nothing if that takes too long: it is optional. The look-up costs
// as much as a hundred others, and every call for an unknown trade causes one: hence the throttle.
func (s *Server) pendingOf(ctx context.Context, c *call, tradeID string) []trade.PendingRequest {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.StoreTimeout/4)
	defer cancel()
	var pending []trade.PendingRequest
	var err error
	s.throttle.do(func() { pending, err = s.requests.PendingOf(ctx, tradeID, maxPending) })
	if err != nil {
		s.failures.Warn().Err(err).Str("correlation_id", c.correlationID).Msg("cannot look for pending requests of a trade")
	}
	return pending
}

// pathTradeID returns the trade id of the path, or refuses the call.
func (c *call) pathTradeID() (id string, ok bool) {
	id = c.param("trade_id")
	if !isTradeID(id) {
		const detail = "a trade id is 1 to 64 of A-Z a-z 0-9 . _ - and starts with a letter or digit"
		c.refuse(problem{code: InvalidTradeID, detail: detail})
		return "", false
	}
	c.tradeID = id
	return id, true
}

// listTrades answers GET /api/v1/trades: one item per trade and version, in the order of the key. next_cursor is left
// out on the last page.
func (s *Server) listTrades(c *call, q query) {
	today := trade.DateOf(s.now())
	limit, bad := q.limit()
	if bad != nil {
		c.refuse(*bad)
		return
	}
	filter, bad := q.filter(today)
	if bad != nil {
		c.refuse(*bad)
		return
	}
	c.varyByAccept()
	if media := preferred(c.head.accept, mediaJSON, mediaCSV, mediaNDJSON); media != mediaJSON {
		if q[paramLimit]+q[paramCursor] != "" {
			c.refuse(problem{code: InvalidQuery, detail: "limit, cursor: an export has no pages"})
			return
		}
		s.exportTrades(c, filter, today, media)
		return
	}
	var after trade.Key
	if cursor, given := q[paramCursor]; given {
		var err error
		if after, err = parseTradeCursor(cursor, q.scope()); err != nil {
			c.refuse(badCursor)
			return
		}
	}
	ctx, cancel := s.storeContext()
	defer cancel()
	trades, next, err := s.trades.List(ctx, filter, after, limit)
	if err != nil {
		c.refuseRead(err, "")
		return
	}
	body := append(make([]byte, 0, 256*(len(trades)+1)), '{')
	body = appendItems(body, trades, today)
	if next != (trade.Key{}) {
		body = append(body, `,"next_cursor":"`...)
		body = appendTradeCursor(body, q.scope(), next)
		body = append(body, '"')
	}
	c.json(fasthttp.StatusOK, append(body, '}'))
}

// param returns a parameter of the path.
func (c *call) param(name string) string {
	value, _ := c.ctx.UserValue(name).(string)
	return value
}

// storeContext bounds one read. It does not end with the connection: fasthttp can't watch it while a handler runs.
func (s *Server) storeContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), s.cfg.StoreTimeout)
}

// refuseRead answers a read that failed. What the store said goes to the log, not to the client.
func (c *call) refuseRead(err error, missing string) {
	p := ofStore(err, missing)
	if p.code == StoreUnavailable {
		c.srv.failures.Warn().Err(err).Str("correlation_id", c.correlationID).Str("route", c.route).Msg("cannot read")
	}
	c.refuse(p)
}

// appendState writes the state of a request, without the closing brace.
func appendState(dst []byte, state *trade.RequestState) []byte {
	dst = append(dst, `{"request_id":"`...)
	dst = state.ID.Append(dst)
	dst = append(dst, `","status":"`...)
	dst = append(dst, state.Status...)
	dst = append(dst, '"')
	if state.TradeID != "" {
		dst = append(dst, `,"trade_id":`...)
		dst = appendString(dst, state.TradeID)
		dst = append(dst, `,"version":`...)
		dst = strconv.AppendInt(dst, int64(state.Version), 10)
	}
	if state.Reason != "" {
		dst = append(dst, `,"reason":`...)
		dst = appendString(dst, string(state.Reason))
		dst = append(dst, `,"detail":`...)
		dst = appendString(dst, state.Detail)
	}
	dst = append(dst, `,"accepted_at":"`...)
	dst = state.AcceptedAt.UTC().AppendFormat(dst, time.RFC3339Nano)
	if !state.DecidedAt.IsZero() {
		dst = append(dst, `","decided_at":"`...)
		dst = state.DecidedAt.UTC().AppendFormat(dst, time.RFC3339Nano)
	}
	return append(dst, '"')
}

// appendStored writes the members about what is stored instead of a stale version, if it is known.
func appendStored(dst []byte, stored trade.Stored) []byte {
	if stored.Version == 0 {
		return dst
	}
	dst = append(dst, `,"stored_version":`...)
	dst = strconv.AppendInt(dst, int64(stored.Version), 10)
	dst = append(dst, `,"stored_by":"`...)
	return append(stored.RequestID.Append(dst), '"')
}

// appendItems writes the member "items". Each trade carries expired, which is computed now and never stored.
func appendItems(dst []byte, trades []trade.Trade, today trade.Date) []byte {
	dst = append(dst, `"items":[`...)
	for i := range trades {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendStoredTrade(dst, &trades[i], today)
	}
	return append(dst, ']')
}

func appendStoredTrade(dst []byte, t *trade.Trade, today trade.Date) []byte {
	dst = trade.AppendJSON(dst, t)
	dst = dst[:len(dst)-1] // the closing brace
	dst = append(dst, `,"expired":`...)
	dst = strconv.AppendBool(dst, t.Expired(today))
	return append(dst, '}')
}
