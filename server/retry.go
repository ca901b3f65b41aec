package server

import (
	"cmp"
	"math"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"
)

// Values of Retry-After, in seconds. Every 409, 429 and 503 has one, and every answer about a PENDING request.
const (
	retryLeast    = 1
	retryMost     = 30 // of an estimate
	retryNotReady = 2  // about the pause between two attempts of the checks (at most 2 s)
	retryExport   = 5  // exports take longer than other calls
	retryLog      = 5  // a partition of the log without a leader mostly gets one within seconds
	retryPast     = 2  // no read of the past takes longer (storeTimeout)
)

// retryAfter returns the time to answer all posts under way, at the rate measured last. mu is held.
func (q *queue) retryAfter() int {
	perSecond := q.rate.at(time.Now())
	if perSecond <= 0 {
		return retryMost
	}
	return int(min(max(math.Ceil(float64(q.load.items)/perSecond), retryLeast), retryMost))
}

// retryAfter returns when all records that are in the log now will have been applied. It asks no store.
func (l *lag) retryAfter() int {
	switch drain := l.drain.Load(); drain {
	case drainUnknown:
		return retryLeast
	case drainStalled:
		return retryMost
	default:
		return int(min(max(drain, retryLeast), retryMost))
	}
}

// fixedRetry returns the Retry-After that does not depend on the lag; 0 for none.
func (p *problem) fixedRetry() int {
	switch p.code {
	case NotReady:
		return retryNotReady
	case TooManyExports:
		return retryExport
	case LogUnavailable:
		return retryLog
	case TooManyPastReads:
		return retryPast
	default:
		return p.retryAfter
	}
}

// retries says whether the problem has a Retry-After.
func (p *problem) retries() bool {
	switch p.status() {
	case fasthttp.StatusServiceUnavailable, fasthttp.StatusTooManyRequests, fasthttp.StatusConflict:
		return true
	}
	return false
}

// retry returns the Retry-After of a problem that belongs to no call.
func (p *problem) retry() int { return cmp.Or(p.fixedRetry(), retryLeast) }

// retry returns the Retry-After of a problem; 0 for none.
func (c *call) retry(p *problem) int {
	if !p.retries() {
		return 0
	}
	if seconds := p.fixedRetry(); seconds > 0 {
		return seconds
	}
	return c.srv.lag.retryAfter()
}

// setRetryAfter sets the header, unless seconds is 0.
func (c *call) setRetryAfter(seconds int) {
	if seconds > 0 {
		c.ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, strconv.Itoa(seconds))
	}
}
