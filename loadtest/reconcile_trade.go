package loadtest

import (
	"fmt"
	"slices"
	"time"

	"tradestore/trade"
)

// post is a POST of a trade, its answer, and what GET shows of its request in the end.
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
	problem string // what GET showed in place of a state; empty: no problem

	counted bool // a finding about it is counted: do not conclude anything from it
}

// shown is the part of a request state that must not change. The zero value is a 404, or a request with an unknown id.
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

// row is a stored version of the trade. By HTTP alone it has no id and no position.
type row struct {
	version int32
	content uint64
	id      trade.RequestID
	at      logPosition
}

// entry is a decision in the journal. Without a record its offset is trade.NoOffset and it has no content.
type entry struct {
	version int32
	content uint64
	id      trade.RequestID
	at      logPosition
	shown   shown

	counted bool // it has been counted
}

// logPosition is the position of a record in the log.
type logPosition struct {
	generation, partition int32
	offset                int64
}

// history is everything known about one trade id.
type history struct {
	posts   []post // in the order of their numbers
	rows    []row  // ascending by version
	journal []entry
	sql     bool // rows and journal are from the tables; else there is no journal

	unreadable string // what GET showed in place of the rows; empty: no problem
}

// violation is a kind of broken promise.
type violation uint8

const (
	lost violation = iota
	doubled
	stuck
	wrong
)

// finding is one violation.
type finding struct {
	kind violation
	text string
}

// before says that p is before q in the log, if q is in it: p was answered 202 before q was sent. It follows from P1
// and the clock of the generator.
func (p *post) before(q *post) bool { return p.verdict == Accepted && p.done < q.sent }

func (p *post) String() string {
	name := fmt.Sprintf("trade %s version %d", p.trade.TradeID, p.trade.Version)
	if p.id.IsZero() {
		return fmt.Sprintf("operation %d, %s", p.seq, name)
	}
	return fmt.Sprintf("request %s, %s", p.id, name)
}

// judge compares the answers with what GET shows and the tables hold. It returns every violation. It ignores the state
// of an offender, so that one fault is not counted again for other posts.
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

// checkOutcome says what is wrong with the outcome of a request; why is empty if nothing is.
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

// higherBefore returns a higher version that is before p in the log, or nil.
func (h *history) higherBefore(p *post) *post {
	return h.firstPost(func(q *post) bool {
		return q.trade.Version > p.trade.Version && q.before(p) &&
			(q.shown.status == trade.Success || q.shown.reason == trade.StaleVersion)
	})
}

// stale says whether a higher version may be before p in the log.
func (h *history) stale(p *post) bool {
	return h.firstPost(func(q *post) bool {
		return q.trade.Version > p.trade.Version && q.mayApply() && !p.before(q)
	}) != nil
}

// mayApply says whether the trade of p may be stored. A 404 of a request that was not answered 202 means: no effect.
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

// judgeRows compares the stored versions with the requests that may have written them.
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
			found = append(found, finding{kind, fmt.Sprintf("trade %s version %d is stored, %s", h.posts[0].trade.TradeID,
				h.rows[i].version, why)})
		}
	}
	return found
}

// checkRow says what is wrong with a row; why is empty if nothing is. A row may be from any request of its version that
// can be the last of them in the log.
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

// replacement returns a request that certainly replaced the row of p, or nil.
func (h *history) replacement(p *post) *post {
	return h.firstPost(func(q *post) bool {
		return q.trade.Version == p.trade.Version && q.shown.status == trade.Success && p.before(q)
	})
}
