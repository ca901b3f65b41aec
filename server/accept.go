package server

import (
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"tradestore/internal/failpoint"
	"tradestore/kafka"
	"tradestore/trade"
)

// accept answers POST /api/v1/trades. A 202 promises that the request is tracked and that all in-sync replicas have its
// record (P1, P2). What is refused before the queue costs no store call (C1).
func (s *Server) accept(c *call) {
	s.observe.startSpan(c, spanPost, ofPost)
	post, bad := s.newPost(c)
	if bad != nil {
		c.refuse(*bad)
		return
	}
	if _, shed := s.queue.admit(post); shed != nil {
		c.refuse(*shed)
		return
	}
	deadline := fasthttp.AcquireTimer(s.cfg.AcceptDeadline - time.Since(c.start))
	defer fasthttp.ReleaseTimer(deadline)
	select {
	case a := <-post.answer:
		s.conclude(c, post, a)
	case <-deadline.C:
		s.conclude(c, post, post.giveUp())
	}
}

// newPost reads and checks a single trade, cheap checks first.
func (s *Server) newPost(c *call) (*pendingPost, *problem) {
	switch {
	case !c.head.isPlainJSON():
		return nil, &problem{code: UnsupportedMediaType,
			detail: "send Content-Type: application/json, UTF-8, without Content-Encoding"}
	case len(c.ctx.URI().QueryString()) > 0:
		return nil, &problem{code: InvalidQuery, detail: "no query parameters are accepted here"}
	}
	key, err := c.head.key()
	if err != nil {
		return nil, &problem{code: InvalidIdempotencyKey, detail: err.Error()}
	}
	replayOf, bad := c.head.replayed()
	if bad != nil {
		return nil, bad
	}
	body := c.ctx.PostBody()
	t, invalid := trade.Decode(body)
	if invalid != nil {
		return nil, ofInvalid(invalid)
	}
	c.tradeID = t.TradeID
	post, bad := s.postOf(c, t, key, len(body))
	if bad != nil {
		return nil, bad
	}
	post.answer, post.req.ReplayOf = make(chan answer, 1), replayOf
	return post, nil
}

// postOf makes the post of a trade of size bytes; key may be empty. It fixes id, business date (C8) and partition (C5).
// The caller sets where its answer goes.
func (s *Server) postOf(c *call, t trade.Trade, key trade.IdempotencyKey, size int) (*pendingPost, *problem) {
	acceptedAt := s.now().UTC().Truncate(time.Microsecond)
	today := trade.DateOf(acceptedAt)
	matured := t.Validate(today)
	if matured != nil && key == "" {
		return nil, ofInvalid(matured)
	}
	post := &pendingPost{
		req: trade.Request{
			Trade:         t,
			AcceptedAt:    acceptedAt,
			BusinessDate:  today,
			Partition:     kafka.Partition(t.TradeID, s.cfg.Partitions),
			CorrelationID: c.correlationID,
			TraceParent:   c.traceParent,
		},
		cost:    size + postOverhead,
		arrived: c.start,
		span:    c.span,
	}
	if key == "" {
		post.req.ID = trade.NewRequestID(acceptedAt)
	} else {
		post.keyed = &keyed{key: key, hash: trade.HashPayload(&t), matured: matured}
	}
	return post, nil
}

// conclude tells the client what became of its request.
func (s *Server) conclude(c *call, post *pendingPost, a answer) {
	if a = s.inTime(c, a); a.code == "" {
		c.requestID = post.req.ID
		if a.replayed {
			c.ctx.Response.Header.Set(headerReplayed, "true")
		}
		s.accepted(c, post)
		return
	}
	p := post.refusal(a)
	c.requestID = p.requestID
	c.refuse(p)
}

// inTime turns a yes that is too late into DELIVERY_UNKNOWN. A process that was frozen since the acknowledgement must
// not say yes: the request may have been closed as NOT_DELIVERED meanwhile (C6).
func (s *Server) inTime(c *call, a answer) answer {
	if a.code != "" {
		return a
	}
	failpoint.Here("afterAckBefore202")
	took := time.Since(c.start)
	if took >= s.cfg.AcceptDeadline {
		a.code = DeliveryUnknown
		return a
	}
	s.observe.accepted(c, took)
	return a
}

// accepted answers 202, or with the outcome if the client waits for it.
func (s *Server) accepted(c *call, post *pendingPost) {
	var room [256]byte
	location := post.req.ID.Append(append(room[:0], requestsPath...))
	c.ctx.Response.Header.SetBytesV(fasthttp.HeaderLocation, location)
	// The record was acknowledged in time, so no orphan reaper closes the request, however late the answer is (C6).
	if state, ended := s.wait(c, post.req.ID); ended {
		c.json(fasthttp.StatusOK, s.appendState(room[:0], &state))
		return
	}
	c.setRetryAfter(s.lag.retryAfter())
	body := append(room[:0], `{"request_id":"`...)
	body = post.req.ID.Append(body)
	body = append(body, `","status":"`+string(trade.Pending)+`","trade_id":"`...)
	body = append(body, post.req.Trade.TradeID...) // passed the decoder: nothing in it needs escaping
	body = append(body, `","version":`...)
	body = strconv.AppendInt(body, int64(post.req.Trade.Version), 10)
	c.json(fasthttp.StatusAccepted, append(body, '}'))
}
