package trade

import (
	"slices"
	"strconv"
)

// PlannedDecision is the outcome of one record.
type PlannedDecision struct {
	Record *Record
	Status Status // SUCCESS or FAILED
	Reason Code   // empty on SUCCESS
	Detail string

	Replaces bool // SUCCESS of a version that was stored before, here or earlier
}

// Plan is what a batch changes.
type Plan struct {
	Inserts     []*Record         // rows to add, of keys that are not stored: one per key, sorted by key
	Replaces    []*Record         // rows to put in the place of stored ones, likewise
	Decisions   []PlannedDecision // one per request decided here, in log order
	DeadLetters []*Record         // in log order
	Duplicates  int               // records of requests that had been decided before, here or earlier
}

// Decide applies the version rule to records in the order given, which is log order per trade id, and returns what to
// store. stored holds the highest stored version of each trade id that has one; decided holds the requests that already
// have an outcome. Neither is changed. A record without a request id must have a Fault: it gets no outcome.
//
// The version rule compares a version with the highest one that is stored or came earlier in the batch: a lower one is
// stale, an equal one replaces, a higher one is inserted. The result depends on nothing but the arguments, and a log
// that is split into other batches gives the same result (rule A3).
func Decide(records []Record, stored map[string]int32, decided map[RequestID]struct{}) Plan {
	p := Plan{Decisions: make([]PlannedDecision, 0, len(records))}
	rows := make([]*Record, 0, len(records))
	tops := make(map[string]top, len(records))
	seen := make(map[RequestID]struct{}, len(records))
	for i := range records {
		r := &records[i]
		if !r.ID.IsZero() {
			_, before := decided[r.ID]
			_, here := seen[r.ID]
			if before || here { // the first decision stands (rule A2)
				p.Duplicates++
				continue
			}
			seen[r.ID] = struct{}{}
		}
		if r.Fault != "" {
			p.DeadLetters = append(p.DeadLetters, r)
			if !r.ID.IsZero() {
				p.fail(r, InvalidRecord, r.Fault)
			}
			continue
		}
		high, ok := tops[r.Trade.TradeID]
		if !ok {
			high = top{stored[r.Trade.TradeID], -1}
		}
		if r.Trade.Version < high.version {
			p.fail(r, StaleVersion, StaleDetail(r.Trade.Version, high.version))
			continue
		}
		replaces := r.Trade.Version == high.version
		p.Decisions = append(p.Decisions, PlannedDecision{Record: r, Status: Success, Replaces: replaces})
		if replaces && high.row >= 0 {
			rows[high.row] = r // replaces a row of this batch: only the last one is stored (rule A4)
			continue
		}
		tops[r.Trade.TradeID] = top{r.Trade.Version, len(rows)}
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b *Record) int { return a.Trade.Key().Compare(b.Trade.Key()) }) // no two are equal
	p.split(rows, stored)
	return p
}

func (p *Plan) fail(r *Record, reason Code, detail string) {
	p.Decisions = append(p.Decisions, PlannedDecision{Record: r, Status: Failed, Reason: reason, Detail: detail})
}

// split divides rows into Inserts and Replaces, in the order given. A row replaces a stored one exactly if its version
// is the highest stored one: a higher version is new, and a lower one was stale.
func (p *Plan) split(rows []*Record, stored map[string]int32) {
	isReplace := func(r *Record) bool { return r.Trade.Version == stored[r.Trade.TradeID] }
	if !slices.ContainsFunc(rows, isReplace) { // the usual batch
		p.Inserts = rows
		return
	}
	for _, r := range rows {
		if isReplace(r) {
			p.Replaces = append(p.Replaces, r)
		} else {
			p.Inserts = append(p.Inserts, r)
		}
	}
}

// top is the highest version of a trade so far. Only a row of that version can still be replaced: a lower one is stale.
type top struct {
	version int32
	row     int // among the rows of the batch before they are sorted; -1 while the version is the stored one
}

// StaleDetail is the text for a version that is lower than the stored one.
func StaleDetail(version, stored int32) string {
	b := append(make([]byte, 0, 80), "version "...)
	b = strconv.AppendInt(b, int64(version), 10)
	b = append(b, " is lower than version "...)
	b = strconv.AppendInt(b, int64(stored), 10)
	return string(append(b, ", which is stored"...))
}
