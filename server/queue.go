package server

import (
	"strconv"
	"sync"
	"time"

	"tradestore/trade"
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
// answered, or never. Posts of a partition that takes no records are held back or refused (breaker.go), in their order.
type queue struct {
	cfg      *Config
	verified func() error // an error while the checks do not pass
	m        *metrics

	mu       sync.Mutex // protects what follows
	shares   []share    // partition p belongs to number p modulo their count
	breakers []breaker  // by partition
	load     queueLoad  // waiting is counted by snapshot
	closed   bool       // no post is admitted any more
	rate     rate
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
	q := &queue{cfg: cfg, verified: verified, m: m, shares: make([]share, cfg.Flushes),
		breakers: make([]breaker, cfg.Partitions)}
	for i := range q.shares {
		q.shares[i].changed.L = &q.mu
	}
	for p := range q.breakers {
		q.breakers[p] = breaker{deadline: cfg.AcceptDeadline, share: max(cfg.QueueItems/cfg.Partitions, 1),
			shown: m.partitionShut.WithLabelValues(strconv.Itoa(p))}
	}
	q.rate.since = time.Now()
	return q
}

// admit queues posts in their order, or says why not. It sheds all posts from the first one that has no room, so that
// none overtakes another one of its trade. Of a partition that takes no records it answers the posts itself, from the
// first one on that it refuses.
func (q *queue) admit(posts ...*pendingPost) (admitted int, shed *problem) {
	if q.verified() != nil { // a 202 to the wrong topic would lose the trade
		return 0, &problem{code: NotReady, detail: notReadyDetail}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	var refused map[int32]bool // by partition
	now := time.Now()
	for i, post := range posts {
		if cause, shed := q.noRoom(post); shed != nil {
			q.m.shed[cause].Add(float64(len(posts) - i))
			return i, shed
		}
		p := post.req.Partition
		if refused[p] || !q.breakers[p].admits(post, now) {
			if refused == nil {
				refused = map[int32]bool{}
			}
			refused[p] = true
			q.m.shed[shedPartition].Inc()
			post.answer <- answer{of: post, code: LogUnavailable}
		} else {
			q.add(post)
		}
		q.unpark(p, now)
	}
	return len(posts), nil
}

// add queues a post.
func (q *queue) add(post *pendingPost) {
	q.load.items++
	q.load.bytes += post.cost
	q.breakers[post.req.Partition].posts++
	share := q.shareOf(post.req.Partition)
	share.waiting = append(share.waiting, post)
	share.changed.Signal()
}

func (q *queue) shareOf(partition int32) *share { return &q.shares[int(partition)%len(q.shares)] }

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
	moving := q.load.items
	for p := range q.breakers {
		if b := &q.breakers[p]; b.flow(now) != passes {
			moving -= b.posts
		}
	}
	inTime := q.rate.at(now) * q.cfg.AcceptDeadline.Seconds() / 2
	return float64(moving) >= max(inTime, minBacklog)
}

// next waits for posts of a share and returns all of them, at most MaxBatch: those to deliver, and those to refuse
// because their partition takes no records. It returns none after close, when none is left.
func (q *queue) next(number int) (batch, refused []*pendingPost) {
	share := &q.shares[number]
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		batch, refused = q.take(share, time.Now())
		if len(batch)+len(refused) > 0 || q.closed && len(share.waiting) == 0 {
			return batch, refused
		}
		share.changed.Wait()
	}
}

// take takes posts from a share, and parks those of stalled partitions.
func (q *queue) take(share *share, now time.Time) (batch, refused []*pendingPost) {
	n := min(len(share.waiting), q.cfg.MaxBatch)
	batch = share.waiting[:0:n]
	for _, post := range share.waiting[:n] {
		b := &q.breakers[post.req.Partition]
		switch state := b.flow(now); {
		case state == passes, b.probe == post:
			batch = append(batch, post)
		case state == stalled && !q.closed:
			b.parked = append(b.parked, post)
		default:
			refused = append(refused, post)
		}
	}
	share.waiting = share.waiting[n:]
	return batch, refused
}

// unpark puts the posts that were held back before all others of their share, once their partition is not stalled any
// more, or when the queue is closed.
func (q *queue) unpark(partition int32, now time.Time) {
	b := &q.breakers[partition]
	if len(b.parked) == 0 || b.flow(now) == stalled && !q.closed {
		return
	}
	share := q.shareOf(partition)
	share.waiting = append(b.parked, share.waiting...)
	b.parked = nil
	share.changed.Signal()
}

// handOver notes that the producer gets the record of a post.
func (q *queue) handOver(post *pendingPost) {
	q.mu.Lock()
	defer q.mu.Unlock()
	post.handedOver = time.Now()
	b := &q.breakers[post.req.Partition]
	b.unacked = append(b.unacked, post)
}

// release frees what a post held that was answered with code. Only posts that were decided in time count for the rate.
func (q *queue) release(post *pendingPost, code trade.Code) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	q.load.items--
	q.load.bytes -= post.cost
	if code == "" || code == trade.StaleVersion {
		q.rate.add(now)
	}
	if q.breakers[post.req.Partition].release(post, code, now) {
		for p := range q.breakers { // what kept this partition from taking records may have kept others, and be over
			q.breakers[p].probeAt = now
		}
	}
	q.unpark(post.req.Partition, now)
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
	for p := range q.breakers {
		q.unpark(int32(p), time.Now())
	}
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
	for p := range q.breakers {
		load.waiting += len(q.breakers[p].parked)
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
