package server

import (
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tradestore/trade"
)

// breaker keeps a partition of the log that takes no records from costing more than it must: PENDING entries that never
// get a record, and room in the queue that the other partitions need (C11). The queue protects it.
//
// It goes by the oldest record that the producer has and that is not acknowledged:
//
//   - passes: it is younger than an eighth of the accept deadline, or there is none.
//   - stalled: it is older. Posts wait in the queue, in their order, and nothing is opened for them. The partition may
//     hold its share of the queue. A leader that moves to another broker costs no more than this wait.
//   - shut: it is older than the deadline, or a record could not be delivered. Posts are refused. When the producer
//     has given up the last record, one post at a time passes as a probe, after a pause that doubles each time.
//
// An acknowledgement opens the partition again, unless another record still waits for longer than the deadline.
type breaker struct {
	deadline time.Duration
	share    int              // of the queue, in posts
	shown    prometheus.Gauge // 1 while it is shut

	posts   int            // between admission and answer
	unacked []*pendingPost // handed over and not acknowledged, the oldest first; later ones may have been answered
	parked  []*pendingPost // admitted, and held back while it is stalled; the oldest first
	shut    bool
	probe   *pendingPost  // the post under way that may open it again
	pause   time.Duration // between the failure of a record and the next probe; 0 unless it is shut
	probeAt time.Time     // not before
}

// The states of a breaker.
type flow int

const (
	passes flow = iota
	stalled
	shut
)

// The pause before a probe. The longest one bounds how many requests an outage leaves PENDING, and how long after it
// the first trade is accepted.
const (
	minProbePause = time.Second
	maxProbePause = 30 * time.Second
)

// flow returns the state at the instant now.
func (b *breaker) flow(now time.Time) flow {
	var age time.Duration
	if len(b.unacked) > 0 {
		age = now.Sub(b.unacked[0].handedOver)
	}
	switch {
	case b.shut:
		return shut
	case age >= b.deadline:
		b.close(now)
		return shut
	case age >= b.deadline/8:
		return stalled
	}
	return passes
}

// admits says whether the queue may take another post of the partition.
func (b *breaker) admits(post *pendingPost, now time.Time) bool {
	switch b.flow(now) {
	case passes:
		return true
	case stalled:
		return b.posts < b.share
	case shut:
	}
	if b.probe != nil || len(b.unacked) > 0 || now.Before(b.probeAt) {
		return false
	}
	b.probe = post
	return true
}

// release takes note of the answer of a post. It says whether the partition has opened again.
func (b *breaker) release(post *pendingPost, code trade.Code, now time.Time) (opened bool) {
	b.posts--
	post.released = true
	for len(b.unacked) > 0 && b.unacked[0].released {
		b.unacked[0], b.unacked = nil, b.unacked[1:]
	}
	probed := b.probe == post
	if probed {
		b.probe = nil
	}
	switch {
	case post.handedOver.IsZero(): // says nothing about the partition
	case code == DeliveryUnknown && (!b.shut || probed):
		b.close(now)
	case code == DeliveryUnknown:
		b.probeAt = now.Add(b.pause) // one that was under way when it was shut
	case code == "" && b.shut:
		if len(b.unacked) == 0 || now.Sub(b.unacked[0].handedOver) < b.deadline {
			b.shut, b.pause, opened = false, 0, true
			b.shown.Set(0)
		}
	}
	return opened
}

// close shuts the partition, or keeps it shut after a probe that failed. Pauses differ, so that not all partitions of a
// broker are probed at once: the first one that opens is a reason to probe the others.
func (b *breaker) close(now time.Time) {
	b.shut = true
	b.shown.Set(1)
	b.pause = min(max(2*b.pause, minProbePause), maxProbePause)
	b.probeAt = now.Add(b.pause - rand.N(b.pause/2))
}
