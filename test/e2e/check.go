package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"tradestore/trade"
)

// Row is a row of trades, with the place in the log that it stems from.
type Row struct {
	Trade      trade.Trade
	RequestID  trade.RequestID
	Generation int32
	Slot       Slot
}

// Decision is a row of the journal. Trade is the zero value where the record could not be read, and has an id and a
// version alone where the orphan reaper closed the request.
type Decision struct {
	RequestID     trade.RequestID
	Status        trade.Status
	Reason        trade.Code
	Trade         trade.Trade
	Generation    int32
	Slot          Slot
	AcceptedAt    time.Time
	CorrelationID string
	ClosedAt      int64 // NOT_DELIVERED: how far the partition was applied then; else 0
}

// Letter is a row of dead_letter.
type Letter struct {
	RequestID trade.RequestID // zero when the record named none
	Value     string
}

// Generation is what one topic holds and how it was applied.
type Generation struct {
	Log    []trade.Record   // all partitions, each in offset order
	LogEnd map[int32]int64  // by partition
	Next   map[int32]int64  // ingest_offsets.next_offset by partition
	Steps  map[int32][]Step // what the audit triggers saw of ingest_offsets, by partition, in order
}

// Evidence is what the processes left behind. Gather reads it; a test of the checker may spoil it.
type Evidence struct {
	Generation                   // of the topic in use
	Earlier    []Generation      // of those that it followed, oldest first; without dead letters
	Rows       map[trade.Key]Row // trades
	Journal    []Decision        // table journal
	Opened     map[trade.RequestID]bool
	Letters    map[Slot]Letter
	States     map[trade.RequestID]State // by GET; absent: 404
	Applied    []Applied                 // what the audit triggers saw of trades, in no order of their own
}

// generations returns all of them, oldest first: the numbers that the tables carry begin at 1.
func (ev *Evidence) generations() []Generation {
	return append(slices.Clone(ev.Earlier), ev.Generation)
}

// records returns those of every generation, in this order.
func (ev *Evidence) records() []trade.Record {
	var all []trade.Record
	for _, g := range ev.generations() {
		all = append(all, g.Log...)
	}
	return all
}

// shown is how many offenders of one rule a report lists.
const shown = 5

// Report lists what is wrong, by invariant.
type Report struct {
	Summary  string
	offences map[string][]string
}

func (r *Report) add(rule, format string, args ...any) {
	r.offences[rule] = append(r.offences[rule], fmt.Sprintf(format, args...))
}

// Broken returns the ids of the rules that do not hold, sorted.
func (r *Report) Broken() []string {
	var rules []string
	for rule := range r.offences {
		rules = append(rules, rule)
	}
	slices.Sort(rules)
	return rules
}

// String lists the first offenders of each rule.
func (r *Report) String() string {
	var b strings.Builder
	b.WriteString(r.Summary)
	for _, rule := range r.Broken() {
		list := r.offences[rule]
		fmt.Fprintf(&b, "\n%s does not hold, %d times:", rule, len(list))
		for _, offence := range list[:min(shown, len(list))] {
			b.WriteString("\n\t" + offence)
		}
	}
	return b.String()
}

// Check compares the evidence with the ledger and with a replay of the log. It expects that everything in the log has
// been applied and projected; orphans says whether the orphan reaper has been waited for, too.
func Check(l *Ledger, ev *Evidence, orphans Orphans) *Report {
	r := &Report{offences: map[string][]string{}}
	want := replay(ev.generations(), closedBy(ev.Journal))
	checkRecords(r, l, ev)
	checkAnswers(r, l, ev)
	checkRows(r, want, ev)
	checkJournal(r, want, ev)
	checkStates(r, l, want, ev, orphans)
	checkClosed(r, want, ev)
	checkOrphans(r, want, ev, orphans)
	checkPositions(r, ev)
	checkAudit(r, ev)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, flip := range l.flips {
		r.add("I6", "%s", flip)
	}
	for _, breach := range l.breaches {
		r.add("API", "%s", breach)
	}
	r.Summary = fmt.Sprintf("%d posts, %d records, %d decisions, %d rows, %d dead letters", len(l.posts),
		len(ev.records()), len(ev.Journal), len(ev.Rows), len(ev.Letters))
	return r
}

// replayed is what the log means.
type replayed struct {
	rows      map[trade.Key]Row
	decisions map[trade.RequestID]Decision
	letters   map[Slot]Letter
	closed    map[trade.RequestID]Decision // given, not replayed
}

// replay decides the log one record at a time. It spells the version rule out once more instead of calling
// trade.Decide: a checker that shares the rule with what it checks is blind to a mistake in it. A record of a request
// that was closed came too late and means nothing (R5).
func replay(generations []Generation, closed map[trade.RequestID]Decision) replayed {
	w := replayed{map[trade.Key]Row{}, map[trade.RequestID]Decision{}, map[Slot]Letter{}, closed}
	highest := map[string]int32{}
	for i, g := range generations {
		w.apply(g.Log, int32(i)+1, highest)
	}
	return w
}

func (w *replayed) apply(log []trade.Record, generation int32, highest map[string]int32) {
	for i := range log {
		rec := &log[i]
		if _, decided := w.decisions[rec.ID]; decided {
			continue
		}
		if _, late := w.closed[rec.ID]; late {
			continue
		}
		slot := Slot{rec.Partition, rec.Offset}
		d := Decision{RequestID: rec.ID, Status: trade.Success, Trade: rec.Trade, Generation: generation, Slot: slot,
			AcceptedAt: rec.AcceptedAt, CorrelationID: rec.CorrelationID}
		switch {
		case rec.Fault != "":
			w.letters[slot] = Letter{rec.ID, string(rec.Value)}
			d.Status, d.Reason = trade.Failed, trade.InvalidRecord
		case rec.Trade.Version < highest[rec.Trade.TradeID]:
			d.Status, d.Reason = trade.Failed, trade.StaleVersion
		default:
			highest[rec.Trade.TradeID] = rec.Trade.Version
			w.rows[rec.Trade.Key()] = Row{rec.Trade, rec.ID, generation, slot}
		}
		if !rec.ID.IsZero() {
			w.decisions[rec.ID] = d
		}
	}
}

// checkRecords is I2: every record is a POST that was sent, unchanged, and no record stems from a refusal. A trade's
// records lie in the order in which their clients sent them, where one was answered before the other was sent.
func checkRecords(r *Report, l *Ledger, ev *Evidence) {
	byTag := map[string]*Post{}
	for _, p := range l.Posts() {
		byTag[p.Trade.CounterpartyID] = p
	}
	latest := map[string]*Post{} // by trade id: the one sent last of those seen so far
	met := map[trade.RequestID]bool{}
	for _, rec := range ev.records() {
		slot := Slot{rec.Partition, rec.Offset}
		if l.isInjected(slot) {
			continue
		}
		var doc Document
		if err := json.Unmarshal(rec.Value, &doc); err != nil {
			r.add("I2", "record %v is no JSON", slot)
			continue
		}
		p := byTag[doc.CounterpartyID]
		if p == nil || doc != DocumentOf(p.Trade) || rec.CorrelationID != p.CorrelationID {
			r.add("I2", "record %v, request %s, equals no POST that was sent", slot, rec.ID)
			continue
		}
		if p.Verdict() == Refused {
			r.add("I2", "record %v, request %s, stems from a POST that was answered %d %s", slot, rec.ID, p.Status, p.Code)
		}
		if !p.RequestID.IsZero() && p.RequestID != rec.ID {
			r.add("I2", "record %v carries request %s, the answer named %s", slot, rec.ID, p.RequestID)
		}
		if !ev.Opened[rec.ID] {
			r.add("P1", "record %v, request %s, has no PENDING entry", slot, rec.ID)
		}
		if met[rec.ID] { // a second copy may lie anywhere: only the first one counts
			continue
		}
		met[rec.ID] = true
		before := latest[p.Trade.TradeID]
		together := before != nil && p.Bulk != nil && p.Bulk == before.Bulk
		if together && p.Verdict() == Accepted && p.Place < before.Place {
			r.add("order", "record %v, request %s, lies behind request %s, which came after it in one POST", slot, rec.ID,
				before.RequestID)
		}
		if before != nil && p.Verdict() == Accepted && p.Answered.Before(before.Sent) {
			r.add("order", "record %v, request %s, lies behind request %s, which was sent after it was answered", slot, rec.ID,
				before.RequestID)
		}
		if before == nil || before.Sent.Before(p.Sent) || together && before.Place < p.Place {
			latest[p.Trade.TradeID] = p
		}
	}
}

func (l *Ledger) isInjected(s Slot) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.injected[s]
}

// checkAnswers is I1 and I5: every 202 is in the log and has ended. And of I9: whoever is turned away for now is told
// for how long, and nothing is answered 500.
func checkAnswers(r *Report, l *Ledger, ev *Evidence) {
	logged := map[trade.RequestID]bool{}
	for _, rec := range ev.records() {
		logged[rec.ID] = true
	}
	seen := map[trade.RequestID]bool{}
	for _, p := range l.Posts() {
		checkAnswer(r, p)
		if p.RequestID.IsZero() {
			continue
		}
		if seen[p.RequestID] {
			r.add("I4", "request %s was given to two POSTs", p.RequestID)
		}
		seen[p.RequestID] = true
		s, found := ev.States[p.RequestID]
		switch {
		case p.Verdict() == Accepted && !logged[p.RequestID]:
			r.add("I1", "request %s was answered 202 and is not in the log", p.RequestID)
		case p.Verdict() == Accepted && !found:
			r.add("I1", "request %s was answered 202, GET answers 404", p.RequestID)
		case p.Verdict() == Accepted && s.Reason == trade.NotDelivered:
			r.add("I1", "request %s was answered 202 and ended NOT_DELIVERED", p.RequestID)
		case logged[p.RequestID] && !s.Status.Terminal():
			r.add("I5", "request %s is in the log and still %q", p.RequestID, s.Status)
		case !logged[p.RequestID] && s.Status == trade.Success:
			r.add("I5", "request %s is not in the log and ended SUCCESS", p.RequestID)
		}
	}
}

func checkAnswer(r *Report, p *Post) {
	switch {
	case p.Status == http.StatusAccepted && (p.RequestID.IsZero() || p.RetryAfter == ""):
		r.add("P5", "the 202 for %s names request %q and Retry-After %q", p.Trade.CounterpartyID, p.RequestID, p.RetryAfter)
	case (p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests) && p.RetryAfter == "":
		r.add("I9", "the POST of %s was answered %d %s without Retry-After", p.Trade.CounterpartyID, p.Status, p.Code)
	case p.Status == http.StatusInternalServerError:
		r.add("I9", "the POST of %s was answered 500 %s", p.Trade.CounterpartyID, p.Code)
	}
}

// checkRows is I3: trades is what the replay gives, byte for byte.
func checkRows(r *Report, want replayed, ev *Evidence) {
	for key, w := range want.rows {
		got, ok := ev.Rows[key]
		switch {
		case !ok:
			r.add("I3", "trade %v, request %s at %v, is not stored", key, w.RequestID, w.Slot)
		case got != w:
			r.add("I3", "trade %v is stored as %+v, the log says %+v", key, got, w)
		}
	}
	for key, got := range ev.Rows {
		if _, ok := want.rows[key]; !ok {
			r.add("I3", "trade %v is stored by request %s, the log says it is not", key, got.RequestID)
		}
	}
}

// checkJournal is I4: one outcome per request, equal to the replay; and a dead letter per record that can't be stored.
func checkJournal(r *Report, want replayed, ev *Evidence) {
	seen := map[trade.RequestID]bool{}
	for _, got := range ev.Journal {
		w, ok := want.decisions[got.RequestID]
		switch {
		case seen[got.RequestID]:
			r.add("I4", "request %s has two outcomes", got.RequestID)
		case got.Reason == trade.NotDelivered: // checkClosed
		case !ok:
			r.add("I4", "request %s has an outcome and is not in the log", got.RequestID)
		case w.Reason == trade.InvalidRecord: // what can be read of such a record is up to the decoder
			got.Trade, w.Trade = trade.Trade{}, trade.Trade{}
			fallthrough
		default:
			if !got.AcceptedAt.Equal(w.AcceptedAt) {
				r.add("I4", "request %s is journalled as accepted at %s, the log says %s", got.RequestID, got.AcceptedAt,
					w.AcceptedAt)
			}
			got.AcceptedAt = w.AcceptedAt
			if got != w {
				r.add("I4", "request %s is decided as %+v, the log says %+v", got.RequestID, got, w)
			}
		}
		seen[got.RequestID] = true
	}
	for id, w := range want.decisions {
		if !seen[id] {
			r.add("I4", "request %s at %v has no outcome", id, w.Slot)
		}
	}
	for slot, w := range want.letters {
		if got, ok := ev.Letters[slot]; !ok || got != w {
			r.add("E7", "record %v can't be stored and dead_letter has %d bytes of it, request %s", slot, len(got.Value),
				got.RequestID)
		}
	}
	for slot := range ev.Letters {
		if _, ok := want.letters[slot]; !ok {
			r.add("E7", "record %v is in dead_letter, the log says it is good", slot)
		}
	}
}

// checkStates is I4 and I6 as the client sees them: GET shows the outcome of the replay, and what it ever showed stays.
func checkStates(r *Report, l *Ledger, want replayed, ev *Evidence, orphans Orphans) {
	for id, got := range ev.States {
		w, logged := want.decisions[id]
		closed := false
		if !logged {
			w, closed = want.closed[id]
		}
		switch {
		case !logged && !closed: // an orphan; checkAnswers refuses SUCCESS
			continue
		case closed && got.Status == trade.Pending && orphans == OrphansAllowed: // decided, and about to be shown (R1)
			continue
		}
		shown := State{id, w.Status, w.Trade.TradeID, w.Trade.Version, w.Reason}
		if w.Reason == trade.InvalidRecord {
			shown.TradeID, shown.Version = got.TradeID, got.Version
		}
		if got != shown {
			r.add("I4", "GET shows request %s as %+v, the log says %+v", id, got, shown)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, first := range l.seen {
		if got, asked := ev.States[id]; asked && got != first {
			r.add("I6", "request %s was shown as %+v and is now %+v", id, first, got)
		}
	}
}

// checkPositions is I11 at rest: everything has been applied, and nothing beyond it.
func checkPositions(r *Report, ev *Evidence) {
	for i, g := range ev.generations() {
		for partition, end := range g.LogEnd {
			if next, ok := g.Next[partition]; !ok || next != end {
				r.add("I11", "partition %d of generation %d ends at %d and is applied up to %d", partition, i+1, end, next)
			}
		}
	}
}
