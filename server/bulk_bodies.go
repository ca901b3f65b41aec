package server

import (
	"fmt"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// bodies bounds the memory of bulk requests. Only their route takes more than MaxBodyBytes, and the parser allocates a
// body as soon as it has read the head: each slow client could hold a large one. So a head that finds no room is
// refused before its body is read.
//
// A request is identified by the address of its head: the parser shows nothing else at that moment, and the address
// stays the same until the answer.
type bodies struct {
	largest int           // bytes of one
	limit   int           // bytes of all
	kept    int           // larger buffers are not kept for the next request of a connection
	stale   time.Duration // after it a request is over: the parser does not report each one that was cut off

	mu       sync.Mutex // protects what follows
	underWay map[*fasthttp.RequestHeader]bulkBody
	bytes    int
	swept    time.Time
}

// bulkBody is a body from its head to its answer.
type bulkBody struct {
	bytes int  // reserved; 0 if it is refused
	full  bool // refused: there is no room
	since time.Time
}

func newBodies(cfg *Config) *bodies {
	return &bodies{
		largest: cfg.BulkBytes, limit: max(cfg.QueueBytes, cfg.BulkBytes), kept: cfg.MaxBodyBytes,
		stale: 2 * (cfg.ReadTimeout + cfg.AcceptDeadline), underWay: map[*fasthttp.RequestHeader]bulkBody{},
	}
}

// enter is called with every head and returns how large the body may be; zero is MaxBodyBytes.
func (b *bodies) enter(head *fasthttp.RequestHeader) fasthttp.RequestConfig {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forget(head) // of a request that was cut off
	if !head.IsPost() || string(head.RequestURI()) != bulkPath {
		return fasthttp.RequestConfig{}
	}
	now, size := time.Now(), head.ContentLength()
	if size < 0 { // chunked
		size = b.largest
	}
	if b.bytes+size > b.limit {
		b.sweep(now)
	}
	switch {
	case size > b.largest: // the parser refuses it
		b.underWay[head] = bulkBody{since: now}
	case b.bytes+size > b.limit:
		b.underWay[head] = bulkBody{full: true, since: now}
		return fasthttp.RequestConfig{MaxRequestBodySize: 1} // every bulk request is longer, so the parser refuses it
	default:
		b.bytes += size
		b.underWay[head] = bulkBody{bytes: size, since: now}
	}
	return fasthttp.RequestConfig{MaxRequestBodySize: b.largest}
}

// leave is called at the end of every request.
func (b *bodies) leave(req *fasthttp.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forget(&req.Header)
	req.ReleaseBody(b.kept)
}

func (b *bodies) forget(head *fasthttp.RequestHeader) {
	if body, ok := b.underWay[head]; ok {
		b.bytes -= body.bytes
		delete(b.underWay, head)
	}
}

// sweep forgets requests that were cut off, at most once a second.
func (b *bodies) sweep(now time.Time) {
	if now.Sub(b.swept) < time.Second {
		return
	}
	b.swept = now
	for head, body := range b.underWay {
		if now.Sub(body.since) > b.stale {
			b.forget(head)
		}
	}
}

// refusal returns the problem of a bulk request whose body is too large; ok is false for any other request.
func (b *bodies) refusal(req *fasthttp.Request) (p problem, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	body, ok := b.underWay[&req.Header]
	if body.full {
		return problem{code: QueueFull, detail: "the setting queue-bytes limits the bodies of bulk requests under way"}, ok
	}
	return problem{code: BodyTooLarge, detail: fmt.Sprintf("the body is larger than %d bytes", b.largest)}, ok
}

// reserved returns how many bytes the bodies under way hold, or will hold.
func (b *bodies) reserved() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bytes
}
