package server

import (
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// bodies bounds what bulk requests hold. Their route alone may send more than MaxBodyBytes, and the parser makes room for
// a body as soon as its head is there: slow clients could have a large one each. So a head that finds no room is refused
// before its body is read.
//
// A request is known by the address of its head, which is all that the parser shows at that moment and stays the same
// until its answer.
type bodies struct {
	most  int           // bytes of one
	limit int           // bytes of all
	kept  int           // larger buffers are not kept for the next request of a connection
	stale time.Duration // after which a request is over that was cut off: the parser does not tell of all of them

	mu       sync.Mutex // protects what follows
	underWay map[*fasthttp.RequestHeader]bulkBody
	bytes    int
	swept    time.Time
}

// bulkBody is what is known of a body from its head on.
type bulkBody struct {
	bytes int // held; 0 if it is refused
	full  bool
	since time.Time
}

func newBodies(cfg *Config) *bodies {
	return &bodies{most: cfg.BulkBytes, limit: max(cfg.QueueBytes, cfg.BulkBytes), kept: cfg.MaxBodyBytes,
		stale: 2 * (cfg.ReadTimeout + cfg.AcceptDeadline), underWay: map[*fasthttp.RequestHeader]bulkBody{}}
}

// enter is called with every head and says how large the body may be. Zero leaves that to MaxBodyBytes.
func (b *bodies) enter(head *fasthttp.RequestHeader) fasthttp.RequestConfig {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forget(head) // of a request that was cut off
	if !head.IsPost() || string(head.RequestURI()) != bulkPath {
		return fasthttp.RequestConfig{}
	}
	now, size := time.Now(), head.ContentLength()
	if size < 0 { // chunked
		size = b.most
	}
	if b.bytes+size > b.limit {
		b.sweep(now)
	}
	switch {
	case size > b.most: // the parser refuses it
		b.underWay[head] = bulkBody{since: now}
	case b.bytes+size > b.limit:
		b.underWay[head] = bulkBody{full: true, since: now}
		return fasthttp.RequestConfig{MaxRequestBodySize: 1} // no request is as short, so none gets past the parser
	default:
		b.bytes += size
		b.underWay[head] = bulkBody{bytes: size, since: now}
	}
	return fasthttp.RequestConfig{MaxRequestBodySize: b.most}
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

// refusal is the problem of a bulk request whose body is larger than it may be; ok is false for any other request.
func (b *bodies) refusal(req *fasthttp.Request) (p problem, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	body, ok := b.underWay[&req.Header]
	if body.full {
		return problem{code: QueueFull, detail: "the setting queue-bytes limits what bulk requests under way hold"}, ok
	}
	return problem{code: BodyTooLarge, detail: "the setting bulk-bytes limits the body"}, ok
}

// held returns how many bytes are spoken for.
func (b *bodies) held() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bytes
}
