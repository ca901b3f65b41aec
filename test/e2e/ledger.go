package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"tradestore/trade"
)

// Verdict is what an answer allows a client to conclude about its call (P4).
type Verdict uint8

// The verdicts of a POST.
const (
	Maybe    Verdict = iota // 409, 503 with a request id, 500, no answer: the record may be in the log
	Accepted                // 202: the record is in the log and is decided exactly once
	Refused                 // any other 4xx, and 503 without a request id: no effect, now or later
)

// Post is one POST of a trade and its answer.
type Post struct {
	// Trade is what was sent. Its CounterpartyID is unique to the post and says which one a log record stems from.
	Trade         trade.Trade
	Sent          time.Time // with the monotonic clock
	Answered      time.Time
	Status        int // 0 when no answer came
	Code          trade.Code
	RequestID     trade.RequestID // zero when the answer named none
	CorrelationID string
	RetryAfter    string // the header, or the member of an item
	Bulk          *Post  // the first of those that went in one request; nil: it went alone
	Place         int    // among those
}

// Verdict says what the answer of p means.
func (p *Post) Verdict() Verdict {
	switch {
	case p.Status == http.StatusAccepted:
		return Accepted
	case p.Status == http.StatusConflict:
		return Maybe
	case p.Status >= 400 && p.Status < 500:
		return Refused
	case p.Status == http.StatusServiceUnavailable && p.RequestID.IsZero():
		return Refused
	}
	return Maybe
}

// Slot is a place in the log.
type Slot struct {
	Partition int32
	Offset    int64
}

// Ledger remembers what was sent and what was answered, over any number of restarts. Its methods may be called
// concurrently.
type Ledger struct {
	mu       sync.Mutex
	tags     int
	posts    []*Post
	injected map[Slot]bool // records that a test wrote to the topic itself
	seen     map[trade.RequestID]State
	flips    []string

	breaches []string // exchanges that the description of the API does not allow
}

// NewLedger returns an empty ledger.
func NewLedger() *Ledger {
	return &Ledger{injected: map[Slot]bool{}, seen: map[trade.RequestID]State{}}
}

func (l *Ledger) breach(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.breaches = append(l.breaches, err.Error())
}

// Tag returns a counterparty id that no other post of the ledger carries.
func (l *Ledger) Tag() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tags++
	return fmt.Sprintf("CP-%07d", l.tags)
}

// Add remembers a post.
func (l *Ledger) Add(p *Post) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.posts = append(l.posts, p)
}

// Inject remembers that the record at slot was written by a test and stems from no POST.
func (l *Ledger) Inject(slot Slot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.injected[slot] = true
}

// Observe remembers the first terminal state that GET showed for a request, and every change of it.
func (l *Ledger) Observe(s State) {
	if !s.Status.Terminal() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	first, ok := l.seen[s.RequestID]
	if !ok {
		l.seen[s.RequestID] = s
		return
	}
	if first != s {
		l.flips = append(l.flips,
			fmt.Sprintf("%s was %s %s, then %s %s", s.RequestID, first.Status, first.Reason, s.Status, s.Reason))
	}
}

// Posts returns the posts so far.
func (l *Ledger) Posts() []*Post {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.posts)
}

// Count returns how many posts ended with each HTTP status; 0 stands for no answer.
func (l *Ledger) Count() map[int]int {
	n := map[int]int{}
	for _, p := range l.Posts() {
		n[p.Status]++
	}
	return n
}
