package server

import (
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"tradestore/internal/failpoint"
	"tradestore/internal/telemetry"
	"tradestore/kafka"
	"tradestore/trade"
)

// accept answers POST /api/v1/trades. A 202 promises that the request is tracked and that all in-sync replicas have its
// record (invariants P1, P2). What is refused before the queue costs no store call (C1).
func (s *Server) accept(c *call) {
	s.startSpan(c, spanPost, ofPost)
	sub, bad := s.newPost(c)
	if bad != nil {
		c.refuse(*bad)
		return
	}
	if _, shed := s.batcher.admit(sub); shed != nil {
		c.refuse(*shed)
		return
	}
	deadline := fasthttp.AcquireTimer(s.cfg.AcceptDeadline - time.Since(c.start))
	defer fasthttp.ReleaseTimer(deadline)
	select {
	case a := <-sub.answer:
		s.conclude(c, sub, a)
	case <-deadline.C:
		a := answer{code: DeadlineExceeded}
		if sub.giveUp() {
			a.code = DeliveryUnknown
		}
		s.conclude(c, sub, a)
	}
}

// submission checks the request, cheap checks first.
func (s *Server) newPost(c *call) (*pendingPost, *problem) {
	switch {
	case !c.head.isPlainJSON():
		return nil, &problem{code: UnsupportedMediaType, detail: "send Content-Type: application/json, UTF-8, without Content-Encoding"}
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
		p := ofInvalid(invalid)
		return nil, &p
	}
	c.tradeID = t.TradeID
	sub, bad := s.postOf(c, t, key, len(body), make(chan answer, 1))
	if bad == nil {
		sub.req.ReplayOf = replayOf
	}
	return sub, bad
}

// submissionOf fixes what the service decides about a trade that came in size bytes, under a key unless that is empty: id,
// business date and partition.
func (s *Server) postOf(c *call, t trade.Trade, key trade.IdempotencyKey, size int, answers chan answer) (*pendingPost, *problem) {
	acceptedAt := s.now().UTC().Truncate(time.Microsecond)
	today := trade.DateOf(acceptedAt)
	matured := t.Validate(today)
	if matured != nil && key == "" {
		p := ofInvalid(matured)
		return nil, &p
	}
	sub := &pendingPost{
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
		answer:  answers,
	}
	if key == "" {
		sub.req.ID = trade.NewRequestID(acceptedAt)
	} else {
		sub.keyed = &keyed{key: key, hash: trade.HashPayload(&t), matured: matured}
	}
	return sub, nil
}

// conclude tells the client what became of its request.
func (s *Server) conclude(c *call, sub *pendingPost, a answer) {
	if a = s.inTime(c, a); a.code == "" {
		c.requestID = sub.req.ID
		if a.replayed {
			c.ctx.Response.Header.Set(headerReplayed, "true")
		}
		s.accepted(c, sub)
		return
	}
	p := sub.refusal(a)
	c.requestID = p.requestID
	c.refuse(p)
}

// inTime turns a yes that is too late into an unknown. A process that was frozen since the acknowledgement must not say
// yes: by now the request may have been closed as not delivered (C6).
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
	telemetry.Observe(s.m.accepted, took.Seconds(), c.traceParent)
	return a
}

// refusal is the problem of a submission that was not accepted.
func (s *pendingPost) refusal(a answer) problem {
	p := problem{code: a.code, detail: a.detail}
	switch a.code {
	case trade.StaleVersion:
		p.stored = a.stored
		p.violations = []trade.Violation{{Field: "version", Code: trade.StaleVersion, Detail: a.detail}}
	case trade.MaturityInPast:
		p = ofInvalid(s.keyed.matured)
	case IdempotencyKeyReused, IdempotencyKeyExhausted:
	case RequestInProgress:
		p.requestID = s.req.ID
		p.detail = "repeat the request later, or ask for the request_id"
	case DeliveryUnknown:
		p.requestID = s.req.ID
		p.detail = "ask for the request_id: 404 means that the call had no effect"
	case DeadlineExceeded:
		p.detail = "the call had no effect; the setting accept-deadline limits the wait"
	case RequestStoreUnavailable:
		p.detail = "the call had no effect; repeat it later"
	default: // a panic in the flush
		p.detail = "a fault in the service; the effect of the call is unknown"
	}
	return p
}

// accepted answers 202, or with the outcome if the client waits for it.
func (s *Server) accepted(c *call, sub *pendingPost) {
	var room [256]byte
	location := sub.req.ID.Append(append(room[:0], requestsPath...))
	c.ctx.Response.Header.SetBytesV(fasthttp.HeaderLocation, location)
	// The record was acknowledged in time, so no orphan reaper closes the request, however late the answer is now (C6).
	if state, ended := s.wait(c, sub.req.ID); ended {
		c.json(fasthttp.StatusOK, s.appendState(room[:0], &state))
		return
	}
	c.retryAfter(s.lag.retryAfter())
	body := append(room[:0], `{"request_id":"`...)
	body = sub.req.ID.Append(body)
	body = append(body, `","status":"`+string(trade.Pending)+`","trade_id":"`...)
	body = append(body, sub.req.Trade.TradeID...) // passed the decoder: nothing in it needs escaping
	body = append(body, `","version":`...)
	body = strconv.AppendInt(body, int64(sub.req.Trade.Version), 10)
	c.json(fasthttp.StatusAccepted, append(body, '}'))
}
