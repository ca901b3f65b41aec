package server

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"tradestore/trade"
)

// getHistory answers GET /api/v1/trades/{trade_id}/history: every decided submission of the trade in the journal, in
// log order. Members that don't apply are left out.
func (s *Server) getHistory(c *call, q query) {
	id, ok := c.pathTradeID()
	if !ok {
		return
	}
	limit, bad := q.limit()
	if bad != nil {
		c.refuse(*bad)
		return
	}
	var after trade.HistoryPosition
	if cursor, given := q[paramCursor]; given {
		var err error
		if after, err = parseHistoryCursor(cursor, id); err != nil {
			c.refuse(badCursor)
			return
		}
	}
	if !s.takePast(c) {
		return
	}
	defer s.pasts.end()
	ctx, cancel := s.storeContext()
	defer cancel()
	entries, next, err := s.past.History(ctx, id, after, limit)
	if none := (trade.HistoryPosition{}); err == nil && len(entries) == 0 && after == none && next == none {
		err = trade.ErrNotFound
	}
	if err != nil {
		c.refuseRead(err, "no submission of the trade is remembered; the setting outcome-retention says for how long")
		return
	}
	body := append(aboutTrade(id, 512*len(entries)), `"items":[`...)
	for i := range entries {
		if i > 0 {
			body = append(body, ',')
		}
		body = appendHistoryEntry(body, &entries[i])
	}
	body = append(body, ']')
	if next != (trade.HistoryPosition{}) {
		body = append(body, `,"next_cursor":"`...)
		body = appendHistoryCursor(body, id, next)
		body = append(body, '"')
	}
	c.json(200, append(body, '}'))
}

// takePast waits for the turn of a read of the past, or refuses the call. s.pasts.end must follow.
func (s *Server) takePast(c *call) bool {
	if s.pasts.take(s.cfg.PastWait) {
		return true
	}
	detail := fmt.Sprintf("at most %d reads of histories and of as_of at once", s.cfg.MaxPastReads)
	c.refuse(problem{code: TooManyPastReads, detail: detail})
	return false
}

// appendHistoryEntry writes a submission: the state of its request, the payload, and what it replaced.
func appendHistoryEntry(dst []byte, s *trade.HistoryEntry) []byte {
	dst = appendState(dst, &s.RequestState)
	if s.Trade.TradeID != "" {
		dst = append(dst, `,"counterparty_id":`...)
		dst = appendString(dst, s.Trade.CounterpartyID)
		dst = append(dst, `,"book_id":`...)
		dst = appendString(dst, s.Trade.BookID)
		dst = append(dst, `,"maturity_date":"`...)
		dst = s.Trade.MaturityDate.Append(dst)
		dst = append(dst, `","created_date":"`...)
		dst = append(s.Trade.CreatedDate.Append(dst), '"')
	}
	if !s.Replaced.IsZero() {
		dst = append(dst, `,"replaced":"`...)
		dst = append(s.Replaced.Append(dst), '"')
	}
	if !s.ReplayOf.IsZero() {
		dst = append(dst, `,"replay_of":"`...)
		dst = append(s.ReplayOf.Append(dst), '"')
	}
	return append(dst, '}')
}

// badAsOf refuses what is no instant, or one that the clock of the database has not reached.
var badAsOf = problem{code: InvalidQuery,
	detail: "as_of: an instant like 2026-11-23T09:00:00.5Z (RFC 3339, UTC) that is not in the future"}

// getTradeAsOf answers GET /api/v1/trades/{trade_id}?as_of=TIME with a page of the versions as they were stored then,
// and whether they had expired on that day. The clock is that of decided_at, the database's.
func (s *Server) getTradeAsOf(c *call, id string, q query) {
	text := q[paramAsOf]
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || !strings.HasSuffix(text, "Z") || at.Year() < 1 {
		c.refuse(badAsOf)
		return
	}
	scope := versionScope(id, at)
	limit, after, bad := q.versions(scope)
	if bad != nil {
		c.refuse(*bad)
		return
	}
	if !s.takePast(c) {
		return
	}
	defer s.pasts.end()
	ctx, cancel := s.storeContext()
	defer cancel()
	trades, next, err := s.past.AsOf(ctx, id, at, after, limit)
	switch {
	case errors.Is(err, trade.ErrFuture):
		c.refuse(badAsOf)
		return
	case errors.Is(err, trade.ErrForgotten):
		c.refuse(problem{code: NotRetained, detail: "as_of: a version has been replaced since then, and what it replaced " +
			"may be deleted; the setting outcome-retention says how long submissions are kept"})
		return
	case err == nil && len(trades) == 0 && after == 0 && next == 0:
		err = trade.ErrNotFound
	}
	if err != nil {
		c.refuseRead(err, "no version of the trade was stored then")
		return
	}
	body := append(aboutTrade(id, 256*len(trades)), `"as_of":"`...)
	body = at.AppendFormat(body, time.RFC3339Nano)
	body = append(body, `",`...)
	body = appendItems(body, trades, trade.DateOf(at))
	c.validated(append(appendNextVersion(body, scope, next), '}'))
}

// versionScope is what a cursor in the versions of a trade is bound to. The zero time stands for now.
func versionScope(id string, at time.Time) string {
	if at.IsZero() {
		return id
	}
	return id + "&" + paramAsOf + "=" + at.Format(time.RFC3339Nano)
}

// versions returns which page of the versions of a trade to show: up to limit of them, after a version.
func (q query) versions(scope string) (limit int, after int32, bad *problem) {
	if limit, bad = q.limit(); bad != nil {
		return 0, 0, bad
	}
	if cursor, given := q[paramCursor]; given {
		var err error
		if after, err = parseVersionCursor(cursor, scope); err != nil {
			return 0, 0, &badCursor
		}
	}
	return limit, after, nil
}

// appendNextVersion writes the member "next_cursor", unless the page was the last.
func appendNextVersion(body []byte, scope string, next int32) []byte {
	if next == 0 {
		return body
	}
	body = append(body, `,"next_cursor":"`...)
	return append(appendVersionCursor(body, scope, next), '"')
}

// appendPending writes the member "pending".
func appendPending(dst []byte, pending []trade.PendingRequest) []byte {
	dst = append(dst, `,"pending":[`...)
	for i := range pending {
		p := &pending[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"request_id":"`...)
		dst = p.ID.Append(dst)
		dst = append(dst, `","version":`...)
		dst = strconv.AppendInt(dst, int64(p.Version), 10)
		dst = append(dst, `,"accepted_at":"`...)
		dst = p.AcceptedAt.AppendFormat(dst, time.RFC3339Nano)
		dst = append(dst, `"}`...)
	}
	return append(dst, ']')
}

const historyPosition = 4 + 4 + 8 + 16 // bytes

// appendHistoryCursor writes the cursor behind a position in the history of a trade.
func appendHistoryCursor(dst []byte, tradeID string, p trade.HistoryPosition) []byte {
	var room [historyPosition]byte
	position := binary.BigEndian.AppendUint32(room[:0], uint32(p.Generation))
	position = binary.BigEndian.AppendUint32(position, uint32(p.Partition))
	position = binary.BigEndian.AppendUint64(position, uint64(p.Offset))
	return appendCursor(dst, cursorOfHistory, tradeID, append(position, p.ID[:]...))
}

// parseHistoryCursor parses what appendHistoryCursor wrote, and nothing else.
func parseHistoryCursor(s, tradeID string) (trade.HistoryPosition, error) {
	position, err := parseCursor(s, cursorOfHistory, tradeID)
	if err != nil || len(position) != historyPosition {
		return trade.HistoryPosition{}, errCursor
	}
	p := trade.HistoryPosition{
		Generation: int32(binary.BigEndian.Uint32(position)),
		Partition:  int32(binary.BigEndian.Uint32(position[4:])),
		Offset:     int64(binary.BigEndian.Uint64(position[8:])),
		ID:         trade.RequestID(position[16:]),
	}
	if p.Generation < 1 || p.Partition < 0 || p.Offset < 0 {
		return trade.HistoryPosition{}, errCursor
	}
	return p, nil
}
