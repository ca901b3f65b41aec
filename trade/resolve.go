package trade

import (
	"fmt"
	"slices"
)

// Decision is what became of one record.
type Decision struct {
	Record *Record
	Status Status // SUCCESS or FAILED
	Reason Code   // empty on SUCCESS
	Detail string
}

// Plan is what a batch changes.
type Plan struct {
	Rows        []*Record  // to insert or replace: one per key, sorted by key
	Decisions   []Decision // one per request decided here, in log order
	DeadLetters []*Record  // in log order
	Duplicates  int        // records of requests that had been decided before, here or earlier
}

// Resolve decides records in the order given, which is log order per trade id. stored holds the highest stored version of
// each trade id that has one; decided holds the requests that already have an outcome. Neither is changed.
//
// The version rule: lower than the highest stored or earlier in the batch is stale, equal replaces, higher inserts.
// The result depends on nothing but the arguments, and splitting a log into other batches gives the same result.
func Resolve(records []Record, stored map[string]int32, decided map[RequestID]struct{}) Plan {
	p := Plan{Rows: make([]*Record, 0, len(records)), Decisions: make([]Decision, 0, len(records))}
	highest := make(map[string]int32, len(records))
	rowOf := make(map[Key]int, len(records))
	seen := make(map[RequestID]struct{}, len(records))
	for i := range records {
		r := &records[i]
		if !r.ID.IsZero() {
			_, before := decided[r.ID]
			_, here := seen[r.ID]
			if before || here { // the first decision stands
				p.Duplicates++
				continue
			}
			seen[r.ID] = struct{}{}
		}
		if r.Fault != "" {
			p.DeadLetters = append(p.DeadLetters, r)
			if !r.ID.IsZero() {
				p.Decisions = append(p.Decisions, Decision{r, Failed, InvalidRecord, r.Fault})
			}
			continue
		}
		high, ok := highest[r.Trade.TradeID]
		if !ok {
			high = stored[r.Trade.TradeID]
		}
		if r.Trade.Version < high {
			p.Decisions = append(p.Decisions, Decision{r, Failed, StaleVersion, StaleDetail(r.Trade.Version, high)})
			continue
		}
		highest[r.Trade.TradeID] = r.Trade.Version
		p.Decisions = append(p.Decisions, Decision{Record: r, Status: Success})
		if at, ok := rowOf[r.Trade.Key()]; ok {
			p.Rows[at] = r // a replace within the batch: the last record is the one stored
			continue
		}
		rowOf[r.Trade.Key()] = len(p.Rows)
		p.Rows = append(p.Rows, r)
	}
	slices.SortFunc(p.Rows, func(a, b *Record) int {
		if a.Trade.Key().Less(b.Trade.Key()) {
			return -1
		}
		return 1
	})
	return p
}

// StaleDetail is the text for a version that is lower than the stored one.
func StaleDetail(version, stored int32) string {
	return fmt.Sprintf("version %d is lower than version %d, which is stored", version, stored)
}
