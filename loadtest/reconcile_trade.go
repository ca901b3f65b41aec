package loadtest

import (
	"fmt"
	"slices"
	"time"

	"tradestore/trade"
)

// post is a POST of a trade, its answer, and what GET shows of its request at the end.
type post struct {
	seq     uint64
	trade   trade.Trade
	content uint64 // digest of the fields that are no key
	verdict Verdict
	status  uint16          // of the answer; 0: none
	id      trade.RequestID // zero: the answer named none
	sent    time.Duration
	done    time.Duration
	shown   shown
	problem string // what was shown in place of a state; empty: nothing was wrong with it

	counted bool // it has been counted: nothing is concluded from what it shows
}

// shown is what GET shows of a request, as far as it may never change. The zero value is a 404, or a request that nobody
// could ask for.
type shown struct {
	status trade.Status
	reason trade.Code
}

func (s shown) String() string {
	if s.status == "" {
		return "404"
	}
	if s.reason == "" {
		return string(s.status)
	}
	return string(s.status) + " " + string(s.reason)
}

// row is a stored version of the trade. By HTTP alone it has no id and no place.
type row struct {
	version int32
	content uint64
	id      trade.RequestID
	at      logPosition
}

// entry is a decided request in the journal. One without a record has a place with offset trade.NoOffset and no content.
type entry struct {
	version int32
	content uint64
	id      trade.RequestID
	at      logPosition
	shown   shown

	counted bool // it has been counted
}

// place is where a record lies in the log.
type logPosition struct {
	generation, partition int32
	offset                int64
}

// history is all that is known of one trade id.
type history struct {
	posts   []post // in the order of their numbers
	rows    []row  // ascending by version
	journal []entry
	sql     bool // rows and journal were read from the tables; else the journal is not known

	unreadable string // what was shown in place of the rows; empty: nothing was wrong with them
}

// breach is a kind of broken promise.
type violation uint8

const (
	lost violation = iota
	doubled
	stuck
	wrong
)

// finding is one broken promise.
type finding struct {
	kind violation
	text string
}

// before says that p lies before q in the log, if q is there at all: p was answered 202 before q was sent. It follows from
// P1 and from the clock of the generator alone.
func (p *post) before(q *post) bool { return p.verdict == Accepted && p.done < q.sent }

func (p *post) String() string {
	name := fmt.Sprintf("trade %s version %d", p.trade.TradeID, p.trade.Version)
	if p.id.IsZero() {
		return fmt.Sprintf("operation %d, %s", p.seq, name)
	}
	return fmt.Sprintf("request %s, %s", p.id, name)
}

// judge compares what was answered with what is shown and stored, and returns every difference that the promises do not
// allow. What an offender shows is not believed, so that one fault is not counted again for its neighbours.
func (h *history) judge() []finding {
	var found []finding
	for i := range h.posts {
		p := &h.posts[i]
		if kind, why := h.checkOutcome(p); why != "" {
			p.counted = true
			found = append(found, finding{kind, p.String() + ": " + why})
		}
	}
	if h.unreadable != "" {
		return append(found, finding{wrong, h.unreadable})
	}
	found = h.judgeRows(found)
	if h.sql {
		found = h.judgeJournal(found)
	}
	return found
}

// misjudged says what is wrong with the end of a request; why is empty when nothing is.
func (h *history) checkOutcome(p *post) (kind violation, why string) {
	switch {
	case p.verdict == Refused:
		return 0, ""
	case p.problem != "":
		return wrong, p.problem
	case p.verdict == Accepted && p.id.IsZero():
		return wrong, "answered 202 without a request id"
	}
	if q := h.firstPost(func(q *post) bool { return q.id == p.id && q.seq < p.seq }); q != nil && !p.id.IsZero() {
		return wrong, fmt.Sprintf("operations %d and %d, two calls, were answered with this one request", q.seq, p.seq)
	}
	if p.verdict == Accepted {
		switch {
		case p.shown.status == "":
			return lost, "answered 202, GET answers 404"
		case p.shown.status == trade.Pending:
			return stuck, "answered 202, still PENDING"
		case p.shown.reason == trade.NotDelivered:
			return lost, "answered 202, ended NOT_DELIVERED"
		case p.shown.reason == trade.StaleVersion && !h.stale(p):
			return wrong, "ended FAILED STALE_VERSION, but no higher version came first"
		}
	}
	switch {
	case p.shown.status == trade.Success:
		if q := h.higherBefore(p); q != nil {
			return wrong, fmt.Sprintf("ended SUCCESS, but version %d was answered 202 before it was sent", q.trade.Version)
		}
	case p.shown.status == trade.Failed && p.shown.reason != trade.StaleVersion && p.shown.reason != trade.NotDelivered:
		return wrong, fmt.Sprintf("ended FAILED with reason %q", p.shown.reason)
	}
	return 0, ""
}

// overtaken returns a higher version that lies before p in the log; nil if there is none.
func (h *history) higherBefore(p *post) *post {
	return h.firstPost(func(q *post) bool {
		return q.trade.Version > p.trade.Version && q.before(p) && (q.shown.status == trade.Success || q.shown.reason == trade.StaleVersion)
	})
}

// stale says whether a higher version may lie before p in the log.
func (h *history) stale(p *post) bool {
	return h.firstPost(func(q *post) bool { return q.trade.Version > p.trade.Version && q.mayApply() && !p.before(q) }) != nil
}

// mayApply says whether the trade of p may have been stored. A 404 of a request that was not answered 202 means that it
// had no effect.
func (p *post) mayApply() bool {
	switch {
	case p.verdict == Refused:
		return false
	case p.counted:
		return true
	case p.verdict == Unknown && !p.id.IsZero() && p.shown.status == "":
		return false
	}
	return p.shown.status != trade.Failed
}

func (h *history) firstPost(is func(*post) bool) *post {
	for i := range h.posts {
		if is(&h.posts[i]) {
			return &h.posts[i]
		}
	}
	return nil
}

// judgeRows holds the stored versions against the requests that may have written them.
func (h *history) judgeRows(found []finding) []finding {
	for i := range h.posts {
		p := &h.posts[i]
		stored := slices.ContainsFunc(h.rows, func(r row) bool { return r.version == p.trade.Version })
		if p.shown.status == trade.Success && !p.counted && !stored {
			p.counted = true
			found = append(found, finding{lost, p.String() + ": ended SUCCESS, this version is not stored"})
		}
	}
	for i := range h.rows {
		if kind, why := h.checkRow(&h.rows[i]); why != "" {
			found = append(found, finding{kind, fmt.Sprintf("trade %s version %d is stored, %s", h.posts[0].trade.TradeID, h.rows[i].version, why)})
		}
	}
	return found
}

// misplaced says what is wrong with a row; why is empty when nothing is. A row may be that of any request of its version
// that can be the last one of them in the log.
func (h *history) checkRow(r *row) (kind violation, why string) {
	same := func(p *post) bool { return p.trade.Version == r.version && p.content == r.content }
	switch {
	case h.firstPost(func(p *post) bool { return same(p) && p.mayApply() && h.replacement(p) == nil }) != nil:
		return 0, ""
	case h.firstPost(func(p *post) bool { return p.trade.Version == r.version }) == nil:
		return doubled, "but nobody sent that version"
	}
	if p := h.firstPost(func(p *post) bool { return same(p) && p.mayApply() }); p != nil {
		return wrong, fmt.Sprintf("as sent by %s, but %s replaced it", p, h.replacement(p))
	}
	if p := h.firstPost(func(p *post) bool { return same(p) && p.verdict == Refused }); p != nil {
		return wrong, fmt.Sprintf("as sent by operation %d, which was refused with %d", p.seq, p.status)
	}
	if p := h.firstPost(same); p != nil {
		return wrong, fmt.Sprintf("as sent by %s, which ended %s", p, p.shown)
	}
	return wrong, "with fields that nobody sent"
}

// replacement returns a request that has certainly replaced the row of p; nil if there is none.
func (h *history) replacement(p *post) *post {
	return h.firstPost(func(q *post) bool {
		return q.trade.Version == p.trade.Version && q.shown.status == trade.Success && p.before(q)
	})
}
