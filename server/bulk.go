package server

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"tradestore/trade"
)

// acceptBulk answers POST /api/v1/trades:batch: each trade as if it were alone, with the same promises (P1 to P5), and
// the trades of one trade id in their order. The request as a whole is refused only before any trade is decoded.
func (s *Server) acceptBulk(c *call) {
	s.observe.startSpan(c, spanBulk, ofBulk)
	docs, key, bad := s.split(c)
	if bad != nil {
		c.refuse(*bad)
		return
	}
	items := make([]bulkItem, len(docs))
	posts := make([]*pendingPost, 0, len(docs))
	answers := make(chan answer, len(docs))
	for i, doc := range docs {
		post, bad := s.bulkPost(c, doc, itemKey(key, i))
		if bad != nil {
			items[i].problem = bad
			continue
		}
		post.index, post.answer = i, answers
		if len(posts) > 0 {
			post.span = nil // the stages of the first stand for all: a thousand trades would be thousands of spans
		}
		posts = append(posts, post)
	}
	admitted, shed := s.queue.admit(posts...)
	for _, post := range posts[admitted:] {
		items[post.index].problem = shed
	}
	s.await(c, posts[:admitted], answers, items)
	c.answerBulk(items)
}

// split checks the request, cheap checks first, and splits it into documents of one trade each.
func (s *Server) split(c *call) (docs [][]byte, key trade.IdempotencyKey, bad *problem) {
	ndjson := c.head.isPlain(mediaNDJSON)
	switch {
	case !ndjson && !c.head.isPlainJSON():
		return nil, "", &problem{code: UnsupportedMediaType,
			detail: "send Content-Type: application/json or application/x-ndjson, UTF-8, without Content-Encoding"}
	case len(c.ctx.URI().QueryString()) > 0:
		return nil, "", &problem{code: InvalidQuery, detail: "no query parameters are accepted here"}
	}
	key, err := c.head.key()
	if err != nil {
		return nil, "", &problem{code: InvalidIdempotencyKey, detail: err.Error()}
	}
	body, limit, ok := c.ctx.PostBody(), s.cfg.BulkItems, true
	if ndjson {
		docs = splitLines(body, limit)
	} else {
		docs, ok = splitArray(body, limit)
	}
	switch {
	case !ok:
		return nil, "", &problem{code: MalformedBatch, detail: "one JSON array is expected, valid to its last byte"}
	case len(docs) == 0:
		return nil, "", &problem{code: EmptyBatch, detail: "at least one trade is expected"}
	case len(docs) > limit:
		return nil, "", &problem{code: TooManyItems, detail: fmt.Sprintf("at most %d trades in one request", limit)}
	case len(itemKey(key, len(docs)-1)) > trade.MaxIdempotencyKey:
		return nil, "", &problem{code: InvalidIdempotencyKey,
			detail: fmt.Sprintf("the key and /%d have more than %d characters", len(docs)-1, trade.MaxIdempotencyKey)}
	}
	return docs, key, nil
}

// itemKey returns the key of item i of a request under a key. A single post under it repeats the item.
func itemKey(key trade.IdempotencyKey, i int) trade.IdempotencyKey {
	if key == "" {
		return ""
	}
	return key + "/" + trade.IdempotencyKey(strconv.Itoa(i))
}

// bulkPost reads and checks one item like the body of a single post.
func (s *Server) bulkPost(c *call, doc []byte, key trade.IdempotencyKey) (*pendingPost, *problem) {
	if len(doc) > s.cfg.MaxBodyBytes {
		return nil, &problem{code: BodyTooLarge, detail: "the setting max-body-bytes limits a trade"}
	}
	t, invalid := trade.Decode(doc)
	if invalid != nil {
		return nil, ofInvalid(invalid)
	}
	return s.postOf(c, t, key, len(doc))
}

// await gathers the answers until all are there, or until the deadline. The deadline is compared when an answer arrives
// here, not when the whole request is answered: R3 needs an acknowledgement in time (C6).
func (s *Server) await(c *call, posts []*pendingPost, answers <-chan answer, items []bulkItem) {
	deadline := time.NewTimer(s.cfg.AcceptDeadline - time.Since(c.start))
	defer deadline.Stop()
	for range posts {
		select {
		case a := <-answers:
			items[a.of.index] = s.bulkItemOf(s.inTime(c, a))
		case <-deadline.C:
			for _, post := range posts {
				if items[post.index] == (bulkItem{}) {
					items[post.index] = s.bulkItemOf(post.giveUp())
				}
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

// result returns the label that counts the item. A refusal is the client's mistake; the rest counts against the
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
	c.setRetryAfter(retry)
	c.ctx.Response.Header.Set(headerCacheControl, "no-store")
	c.ctx.SetStatusCode(fasthttp.StatusMultiStatus)
	c.ctx.SetContentType(mediaJSON)
	c.ctx.Response.SetBodyRaw(body) // a copy would stay with the connection
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

// appendProblem writes the problem of an item. In a long answer it leaves out the violations: a trade of three bytes
// breaks six rules, and an answer must not be many times as large as its request.
func (c *call) appendProblem(body []byte, p problem) []byte {
	if len(body) > c.srv.cfg.BulkBytes && len(p.violations) > 0 {
		p.violations, p.detail = nil, "this answer has no room for errors: send the trade alone to see them"
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
