package server

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// minBacklog is how many posts may be under way before a rate is known, or after a store has stood still.
const minBacklog = 256

const notReadyDetail = "the call had no effect; schema and topic are not verified yet: repeat it later"

// queue holds the posts that wait for a flush. It admits a post or sheds it at once, and calls no store: shedding stays
// cheap however slow the stores are (C1).
//
// Each flush has its own share of the partitions. So each has more records for fewer partitions, and all posts of a
// trade pass one after the other: those of one request are in the log in its order. A client that waits for one answer
// before it sends the next request finds both in the log in this order, because a record is produced before its post is
// answered, or never.
type queue struct {
	cfg      *Config
	verified func() error // an error while the checks do not pass
	shed     map[string]prometheus.Counter

	mu     sync.Mutex // protects what follows
	shares []share    // partition p belongs to number p modulo their count
	load   queueLoad  // waiting is counted by snapshot
	closed bool       // no post is admitted any more
	rate   rate
}

// share is the queue of one flush.
type share struct {
	changed sync.Cond // signalled when waiting grows, or the queue is closed
	waiting []*pendingPost
}

// queueLoad counts the posts that have no answer yet.
type queueLoad struct {
	waiting int // posts that no flush has taken
	items   int // all of them
	bytes   int // of their bodies
}

func newQueue(cfg *Config, verified func() error, m *metrics) *queue {
	q := &queue{cfg: cfg, verified: verified, shed: m.shed, shares: make([]share, cfg.Flushes)}
	for i := range q.shares {
		q.shares[i].changed.L = &q.mu
	}
	q.rate.since = time.Now()
	return q
}

// admit queues posts in their order, or says why not. It sheds all posts from the first one that has no room, so that
// none overtakes another one of its trade.
func (q *queue) admit(posts ...*pendingPost) (admitted int, shed *problem) {
	if q.verified() != nil { // a 202 to the wrong topic would lose the trade
		return 0, &problem{code: NotReady, detail: notReadyDetail}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, post := range posts {
		if cause, shed := q.noRoom(post); shed != nil {
			q.shed[cause].Add(float64(len(posts) - i))
			return i, shed
		}
		q.load.items++
		q.load.bytes += post.cost
		share := &q.shares[int(post.req.Partition)%len(q.shares)]
		share.waiting = append(share.waiting, post)
		share.changed.Signal()
	}
	return len(posts), nil
}

// noRoom says why post can't be admitted, or nothing.
func (q *queue) noRoom(post *pendingPost) (cause string, shed *problem) {
	full := func(detail string) *problem {
		return &problem{code: QueueFull, detail: detail, retryAfter: q.retryAfter()}
	}
	switch {
	case q.closed:
		return shedClosed, &problem{code: ShuttingDown, detail: "repeat the request: another server may take it"}
	case q.load.items >= q.cfg.QueueItems:
		return shedItems, full("the setting queue-items limits requests under way")
	case q.load.bytes+post.cost > q.cfg.QueueBytes:
		return shedBytes, full("the setting queue-bytes limits requests under way")
	case q.late(post.arrived):
		return shedLate, full("more requests are under way than the stores take before the setting accept-deadline")
	}
	return "", nil
}

// late says that the queue is longer than can be served in time. Without it an overload fills the queue with posts that
// are opened and then too late to be produced. It uses the rate only after the first post has waited for an eighth of
// the deadline: until then the rate reflects the offered load, not the capacity.
func (q *queue) late(now time.Time) bool {
	longest := time.Duration(-1)
	for i := range q.shares {
		if waiting := q.shares[i].waiting; len(waiting) > 0 {
			longest = max(longest, now.Sub(waiting[0].arrived))
		}
	}
	if longest < q.cfg.AcceptDeadline/8 {
		return false
	}
	inTime := q.rate.at(now) * q.cfg.AcceptDeadline.Seconds() / 2
	return float64(q.load.items) >= max(inTime, minBacklog)
}

// next waits for posts of a share and returns all of them, at most MaxBatch; nil after close, when none is left.
func (q *queue) next(number int) []*pendingPost {
	share := &q.shares[number]
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(share.waiting) == 0 && !q.closed {
		share.changed.Wait()
	}
	n := min(len(share.waiting), q.cfg.MaxBatch)
	if n == 0 {
		return nil
	}
	batch := share.waiting[:n:n]
	share.waiting = share.waiting[n:]
	return batch
}

// release frees what an answered post held. Only posts that were decided in time count for the rate.
func (q *queue) release(post *pendingPost, inTime bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.load.items--
	q.load.bytes -= post.cost
	if inTime {
		q.rate.add(time.Now())
	}
}

// ifOpen calls f unless the queue is closed. close waits for it.
func (q *queue) ifOpen(f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		f()
	}
}

// close admits no more posts. next still returns those that were admitted.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for i := range q.shares {
		q.shares[i].changed.Signal()
	}
}

// snapshot returns the load now.
func (q *queue) snapshot() queueLoad {
	q.mu.Lock()
	defer q.mu.Unlock()
	load := q.load
	for i := range q.shares {
		load.waiting += len(q.shares[i].waiting)
	}
	return load
}

// rate measures answers in time per second, over spans of a second or more.
type rate struct {
	since     time.Time // start of the current span
	count     int
	perSecond float64 // of the span before
}

func (r *rate) add(now time.Time) {
	r.at(now)
	r.count++
}

// at returns the rate at the instant now.
func (r *rate) at(now time.Time) float64 {
	if span := now.Sub(r.since); span >= time.Second {
		r.perSecond = float64(r.count) / span.Seconds()
		r.since, r.count = now, 0
	} else if r.perSecond == 0 && span > 0 {
		return float64(r.count) // of the first second; nothing better is known yet
	}
	return r.perSecond
}
