package loadtest

import (
	"math"
	"math/bits"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Counts is the current state of an attack.
type Counts struct {
	Sent     uint64
	Answered uint64 // with an answer or without
	InFlight uint64
	Accepted uint64
	Errors   uint64            // no answer, 429, and 5xx
	Status   map[uint16]uint64 // by status; 0 is no answer

	// Of the last second, or since the last call of Count if that is longer ago.
	SentPerSecond     float64
	AcceptedPerSecond float64
	P50, P99          time.Duration // of 202s, from the due time, to 3 percent; 0 if there was none
}

// live has the live counters. Writers only increment; readers subtract an earlier mark.
type live struct {
	sent    atomic.Uint64
	status  [600]atomic.Uint64 // those that are no HTTP status count as 0
	latency [buckets]atomic.Uint64

	mu    sync.Mutex // protects what follows
	marks []mark     // of the last second, and the last one before it
}

// mark is a copy of the counters at a time.
type mark struct {
	at             time.Duration
	sent, accepted uint64
	latency        [buckets]uint64
}

const (
	window     = time.Second
	markEvery  = 100 * time.Millisecond
	fineness   = 5 // bits after the leading one that a bucket tells apart
	longestLog = 36
	buckets    = (longestLog - fineness + 1) << fineness // up to 2^36 microseconds, which is 19 hours
)

// bucket returns where a latency is counted: microseconds with 6 significant bits.
func bucket(d time.Duration) int {
	v := uint64(max(d.Microseconds(), 0))
	if v < 1<<fineness {
		return int(v)
	}
	shift := bits.Len64(v) - fineness - 1
	return min((shift<<fineness)+int(v>>shift), buckets-1)
}

// bound returns the upper bound of a bucket.
func bound(bucket int) time.Duration {
	if bucket < 2<<fineness {
		return time.Duration(bucket+1) * time.Microsecond
	}
	shift := bucket>>fineness - 1
	return time.Duration((bucket-shift<<fineness+1)<<shift) * time.Microsecond
}

func (l *live) add(r *Result) {
	status := r.Status
	if int(status) >= len(l.status) {
		status = 0
	}
	if status == http.StatusAccepted {
		l.latency[bucket(r.Latency())].Add(1)
	}
	l.status[status].Add(1)
}

// Count returns the current state of the attack.
func (r *Results) Count() Counts {
	l := &r.live
	l.mu.Lock()
	defer l.mu.Unlock()
	now := mark{at: r.Now()}
	for i := range l.latency {
		now.latency[i] = l.latency[i].Load()
	}
	c := Counts{Status: map[uint16]uint64{}}
	for status := range l.status {
		n := l.status[status].Load()
		if n == 0 {
			continue
		}
		c.Status[uint16(status)] = n
		c.Answered += n
		if status == 0 || status == http.StatusTooManyRequests || status >= http.StatusInternalServerError {
			c.Errors += n
		}
	}
	c.Accepted = c.Status[http.StatusAccepted]
	c.Sent = max(l.sent.Load(), c.Answered) // after the answers, so that none is counted before it was sent
	c.InFlight = c.Sent - c.Answered
	now.sent, now.accepted = c.Sent, c.Accepted
	c.compare(&now, l.since(&now))
	return c
}

// since returns the mark at the start of the window, and keeps now for later windows.
func (l *live) since(now *mark) *mark {
	for len(l.marks) > 1 && now.at-l.marks[1].at >= window {
		l.marks = l.marks[1:]
	}
	if len(l.marks) == 0 || now.at-l.marks[len(l.marks)-1].at >= markEvery {
		if len(l.marks) == 0 {
			l.marks = append(l.marks, mark{})
		}
		l.marks = append(l.marks, *now)
	}
	return &l.marks[0]
}

func (c *Counts) compare(now, before *mark) {
	if span := (now.at - before.at).Seconds(); span > 0 {
		c.SentPerSecond = float64(now.sent-before.sent) / span
		c.AcceptedPerSecond = float64(now.accepted-before.accepted) / span
	}
	var counts [buckets]uint64
	total := uint64(0)
	for i := range counts {
		counts[i] = now.latency[i] - before.latency[i]
		total += counts[i]
	}
	c.P50, c.P99 = quantile(&counts, total, 0.5), quantile(&counts, total, 0.99)
}

// quantile returns the upper bound of the bucket that contains the quantile q.
func quantile(counts *[buckets]uint64, total uint64, q float64) time.Duration {
	if total == 0 {
		return 0
	}
	rank := uint64(math.Ceil(q * float64(total)))
	for i, n := range counts {
		if n >= rank {
			return bound(i)
		}
		rank -= n
	}
	return bound(buckets - 1)
}
