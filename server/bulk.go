package server

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"tradestore/trade"
)

// acceptBulk answers POST /api/v1/trades:batch: every trade as if it were alone, with the promises of a single one (P1 to
// P5), and those of one trade in their order. The request as a whole is refused only before any trade is looked at.
func (s *Server) acceptBulk(c *call) {
	s.startSpan(c, spanBulk, ofBulk)
	docs, key, bad := s.split(c)
	if bad != nil {
		c.refuse(*bad)
		return
	}
	items := make([]bulkItem, len(docs))
	line := make([]*pendingPost, 0, len(docs))
	answers := make(chan answer, len(docs))
	for i, doc := range docs {
		sub, bad := s.bulkPost(c, doc, itemKey(key, i), answers)
		if bad != nil {
			items[i].problem = bad
			continue
		}
		sub.index = i
		if len(line) > 0 {
			sub.span = nil // the stages of the first stand for all: a thousand trades would be thousands of spans
		}
		line = append(line, sub)
	}
	admitted, shed := s.batcher.admit(line...)
	for _, sub := range line[admitted:] {
		items[sub.index].problem = shed
	}
	s.await(c, line[:admitted], answers, items)
	c.answerBulk(items)
}

// split checks the request, cheap checks first, and tells its trades apart.
func (s *Server) split(c *call) (docs [][]byte, key trade.IdempotencyKey, bad *problem) {
	lines := c.head.isPlain(mediaNDJSON)
	switch {
	case !lines && !c.head.isPlainJSON():
		return nil, "", &problem{code: UnsupportedMediaType, detail: "send Content-Type: application/json or application/x-ndjson, UTF-8, without Content-Encoding"}
	case len(c.ctx.URI().QueryString()) > 0:
		return nil, "", &problem{code: InvalidQuery, detail: "no query parameters are accepted here"}
	}
	key, err := c.head.key()
	if err != nil {
		return nil, "", &problem{code: InvalidIdempotencyKey, detail: err.Error()}
	}
	body, most, ok := c.ctx.PostBody(), s.cfg.BulkItems, true
	if lines {
		docs = splitLines(body, most)
	} else {
		docs, ok = splitArray(body, most)
	}
	switch {
	case !ok:
		return nil, "", &problem{code: MalformedBatch, detail: "one JSON array is expected, valid to its last byte"}
	case len(docs) == 0:
		return nil, "", &problem{code: EmptyBatch, detail: "at least one trade is expected"}
	case len(docs) > most:
		return nil, "", &problem{code: TooManyItems, detail: fmt.Sprintf("the setting bulk-items limits the trades of a request to %d", most)}
	case len(itemKey(key, len(docs)-1)) > trade.MaxIdempotencyKey:
		return nil, "", &problem{code: InvalidIdempotencyKey, detail: fmt.Sprintf("a key that stands for several trades leaves room for /%d within its %d characters", len(docs)-1, trade.MaxIdempotencyKey)}
	}
	return docs, key, nil
}

// itemKey is the key of item i of a request under a key: that of a single post which repeats the item.
func itemKey(key trade.IdempotencyKey, i int) trade.IdempotencyKey {
	if key == "" {
		return ""
	}
	return key + "/" + trade.IdempotencyKey(strconv.Itoa(i))
}

// bulkSubmission judges one item like the body of a single post.
func (s *Server) bulkPost(c *call, doc []byte, key trade.IdempotencyKey, answers chan answer) (*pendingPost, *problem) {
	if len(doc) > s.cfg.MaxBodyBytes {
		return nil, &problem{code: BodyTooLarge, detail: "the setting max-body-bytes limits a trade"}
	}
	t, invalid := trade.Decode(doc)
	if invalid != nil {
		p := ofInvalid(invalid)
		return nil, &p
	}
	return s.postOf(c, t, key, len(doc), answers)
}

// await gathers the answers until all are there, or the deadline is. An acknowledgement counts when it is met, not when the
// whole is answered: what R3 demands of it is that it came in time.
func (s *Server) await(c *call, line []*pendingPost, answers <-chan answer, items []bulkItem) {
	deadline := time.NewTimer(s.cfg.AcceptDeadline - time.Since(c.start))
	defer deadline.Stop()
	for range line {
		select {
		case a := <-answers:
			items[a.of.index] = s.bulkItemOf(s.inTime(c, a))
		case <-deadline.C:
			for _, sub := range line {
				if items[sub.index] != (bulkItem{}) {
					continue
				}
				a := answer{of: sub, code: DeadlineExceeded}
				if sub.giveUp() {
					a.code = DeliveryUnknown
				}
				items[sub.index] = s.bulkItemOf(a)
			}
			return
		}
	}
}

// bulkItem is what a client is told about one trade: the id of its request, or a problem.
type bulkItem struct {
	id       trade.RequestID
	replayed bool
	problem  *problem
}

func (s *Server) bulkItemOf(a answer) bulkItem {
	if a.code != "" {
		p := a.of.refusal(a)
		return bulkItem{problem: &p}
	}
	return bulkItem{id: a.of.req.ID, replayed: a.replayed}
}

// result is the value of the label under which an item is counted: refusals are the client's, the rest counts against the
// objective.
func (i *bulkItem) result() string {
	switch p := i.problem; {
	case p == nil:
		return bulkAccepted
	case p.status() < fasthttp.StatusInternalServerError:
		return bulkRefused
	case p.requestID.IsZero() && p.code != Internal:
		return bulkUnavailable
	}
	return bulkUnknown
}

// answerBulk answers 207 with one entry for each item. Retry-After is the longest of theirs.
func (c *call) answerBulk(items []bulkItem) {
	retry := 0
	body := append(make([]byte, 0, 200*len(items)), `{"items":[`...)
	for i := range items {
		item := &items[i]
		c.srv.m.bulkItems[item.result()].Inc()
		body = append(body, `{"index":`...)
		body = strconv.AppendInt(body, int64(i), 10)
		if p := item.problem; p != nil {
			retry = max(retry, c.retry(p))
			body = c.appendProblem(body, *p)
		} else {
			retry = max(retry, c.srv.lag.retryAfter())
			body = item.appendAccepted(body)
		}
		body = append(body, `},`...)
	}
	body = append(slices.Delete(body, len(body)-1, len(body)), `]}`...)
	if retry > 0 {
		c.retryAfter(retry)
	}
	c.ctx.Response.Header.Set(headerCacheControl, "no-store")
	c.ctx.SetStatusCode(fasthttp.StatusMultiStatus)
	c.ctx.SetContentType(mediaJSON)
	c.ctx.Response.SetBodyRaw(body) // not a copy, which would stay with the connection
}

func (i *bulkItem) appendAccepted(body []byte) []byte {
	body = append(body, `,"status":202,"request_id":"`...)
	body = i.id.Append(body)
	body = append(body, `","location":"`+requestsPath...)
	body = i.id.Append(body)
	body = append(body, '"')
	if i.replayed {
		body = append(body, `,"replayed":true`...)
	}
	return body
}

// appendProblem writes the problem of an item. An answer that is long by now gets shorter ones: three bytes that are no
// trade break six rules, and what they are told must not be a multiple of what may be sent.
func (c *call) appendProblem(body []byte, p problem) []byte {
	if len(body) > c.srv.cfg.BulkBytes && len(p.violations) > 0 {
		p.violations, p.detail = nil, "this answer has no room for what is wrong: send the trade alone"
	}
	body = append(body, `,"status":`...)
	body = strconv.AppendInt(body, int64(p.status()), 10)
	if seconds := c.retry(&p); seconds > 0 {
		body = append(body, `,"retry_after":`...)
		body = strconv.AppendInt(body, int64(seconds), 10)
	}
	body = append(body, `,"problem":`...)
	return p.append(body, c.correlationID)
}
