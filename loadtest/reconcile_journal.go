package loadtest

import (
	"cmp"
	"fmt"
	"slices"

	"tradestore/trade"
)

// compare orders positions of one partition.
func (p logPosition) compare(o logPosition) int {
	return cmp.Or(cmp.Compare(p.generation, o.generation), cmp.Compare(p.offset, o.offset))
}

func (p logPosition) String() string {
	return fmt.Sprintf("%d/%d/%d", p.generation, p.partition, p.offset) // generation, partition, offset
}

func (p logPosition) logged() bool { return p.offset >= 0 }

// judgeJournal compares the journal with the answers, with what GET shows, and with the order of the log.
func (h *history) judgeJournal(found []finding) []finding {
	named := map[trade.RequestID][]*entry{}
	for i := range h.journal {
		named[h.journal[i].id] = append(named[h.journal[i].id], &h.journal[i])
	}
	for i := range h.posts {
		p := &h.posts[i]
		if p.id.IsZero() {
			continue
		}
		entries := named[p.id]
		delete(named, p.id)
		if kind, why := p.checkJournal(entries); why != "" && !p.counted {
			p.counted = true
			found = append(found, finding{kind, p.String() + ": " + why})
		}
	}
	found = h.judgeUnknownEntries(found, named)
	found = h.judgeOrder(found)
	return h.replay(found)
}

// checkJournal says what is wrong with the journal rows of a request; why is empty if nothing is.
func (p *post) checkJournal(entries []*entry) (kind violation, why string) {
	switch {
	case len(entries) > 1:
		return doubled, fmt.Sprintf("has %d outcomes in the journal", len(entries))
	case len(entries) == 0 && p.shown.status.Terminal():
		return lost, fmt.Sprintf("shown as %s, the journal has no outcome", p.shown)
	case len(entries) == 0:
		return 0, ""
	}
	e := entries[0]
	switch {
	case p.shown.status.Terminal() && p.shown != e.shown:
		return wrong, fmt.Sprintf("shown as %s, the journal says %s", p.shown, e.shown)
	case p.trade.Version != e.version:
		return wrong, fmt.Sprintf("the journal has it as version %d", e.version)
	case e.at.logged() && p.content != e.content:
		return wrong, "the journal has it with other fields than were sent"
	}
	return 0, ""
}

// judgeUnknownEntries checks entries whose request id is in no answer. Each POST without a known id may have caused
// one.
func (h *history) judgeUnknownEntries(found []finding, unnamed map[trade.RequestID][]*entry) []finding {
	used := map[uint64]bool{} // posts, by number
	for i := range h.journal {
		e := &h.journal[i]
		if unnamed[e.id] == nil {
			continue
		}
		p := h.firstPost(func(p *post) bool {
			return p.verdict == Unknown && p.id.IsZero() && !used[p.seq] && p.trade.Version == e.version &&
				(p.content == e.content || !e.at.logged())
		})
		if p != nil {
			used[p.seq] = true
			continue
		}
		e.counted = true
		same := func(p *post) bool { return p.trade.Version == e.version && p.content == e.content }
		text := fmt.Sprintf("request %s, trade %s version %d: decided %s at %s, ", e.id, h.posts[0].trade.TradeID, e.version,
			e.shown, e.at)
		if p := h.firstPost(func(p *post) bool { return same(p) && p.verdict != Refused }); p != nil {
			found = append(found, finding{doubled, text + "a copy of " + p.String()})
		} else if p := h.firstPost(same); p != nil {
			found = append(found, finding{wrong, fmt.Sprintf("%sthough operation %d was refused with %d", text, p.seq,
				p.status)})
		} else {
			found = append(found, finding{doubled, text + "but nobody sent it"})
		}
	}
	return found
}

// judgeOrder expects the records of the trade in one partition, and in sending order if one was answered before the
// next was sent (P1).
func (h *history) judgeOrder(found []finding) []finding {
	at := map[trade.RequestID]logPosition{}
	for _, e := range h.journal {
		if e.at.logged() {
			at[e.id] = e.at
		}
		if first := h.journal[0].at; e.at.partition != first.partition {
			return append(found, finding{wrong, fmt.Sprintf("request %s, trade %s: lies at %s, another record of the trade "+
				"at %s", e.id, h.posts[0].trade.TradeID, e.at, first)})
		}
	}
	for i := range h.posts {
		p := &h.posts[i]
		late, ok := at[p.id]
		if !ok || p.counted {
			continue
		}
		q := h.firstPost(func(q *post) bool {
			early, ok := at[q.id]
			return ok && q.before(p) && late.compare(early) <= 0
		})
		if q != nil {
			p.counted = true
			found = append(found, finding{wrong, fmt.Sprintf("%s: lies at %s, but %s, answered before it was sent, at %s", p,
				late, q, at[q.id])})
		}
	}
	return found
}

// replay decides the records of the trade again in log order, and compares outcomes and rows.
func (h *history) replay(found []finding) []finding {
	log := make([]*entry, 0, len(h.journal))
	for i := range h.journal {
		if h.journal[i].at.logged() {
			log = append(log, &h.journal[i])
		}
	}
	slices.SortFunc(log, func(a, b *entry) int { return a.at.compare(b.at) })
	var highest int32
	last := map[int32]*entry{}
	for i, e := range log {
		want := shown{trade.Success, ""}
		if e.version < highest {
			want = shown{trade.Failed, trade.StaleVersion}
		} else {
			highest, last[e.version] = e.version, e
		}
		switch {
		case i > 0 && e.at.compare(log[i-1].at) == 0:
			found = h.addViolation(found, e, doubled, fmt.Sprintf("decided at %s, as was request %s", e.at, log[i-1].id))
		case e.shown != want:
			found = h.addViolation(found, e, wrong, fmt.Sprintf("decided %s at %s, the order of the log says %s", e.shown, e.at,
				want))
		}
	}
	for i := range h.rows {
		r := &h.rows[i]
		if e := last[r.version]; e != nil && (r.id != e.id || r.at != e.at) {
			found = h.addViolation(found, e, wrong, fmt.Sprintf("is the last in the log of its version, at %s, but the row "+
				"stems from request %s at %s", e.at, r.id, r.at))
		}
	}
	return found
}

// addViolation adds a finding about an entry, unless it or its request is counted already.
func (h *history) addViolation(found []finding, e *entry, kind violation, why string) []finding {
	p := h.firstPost(func(p *post) bool { return p.id == e.id })
	if e.counted || p != nil && p.counted {
		return found
	}
	e.counted = true
	return append(found, finding{kind, fmt.Sprintf("request %s, trade %s version %d: %s", e.id, h.posts[0].trade.TradeID,
		e.version, why)})
}
