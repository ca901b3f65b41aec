package e2e

import "tradestore/trade"

// Orphans says what may have become of requests that were opened and never reached the log.
type Orphans uint8

// Whether orphans may still be PENDING. One that was answered 202 is a fault in any case.
const (
	OrphansAllowed Orphans = iota // the orphan reaper may not have come to them yet, or not have shown what it decided
	OrphansClosed                 // each has ended NOT_DELIVERED
)

// closedBy returns the requests that the orphan reaper closed.
func closedBy(journal []Decision) map[trade.RequestID]Decision {
	closed := map[trade.RequestID]Decision{}
	for _, d := range journal {
		if d.Reason == trade.NotDelivered {
			closed[d.RequestID] = d
		}
	}
	return closed
}

// checkClosed is P1, R4 and R5: what was closed had been opened, and had no record as far as the partition was applied.
// That it had no effect is left to the comparison of trades with a replay that knows nothing of it.
func checkClosed(r *Report, want replayed, ev *Evidence) {
	for id, d := range want.closed {
		if d.Status != trade.Failed {
			r.add("I4", "request %s is closed as %s %s", id, d.Status, d.Reason)
		}
		if d.ClosedAt < 0 {
			r.add("R4", "request %s is closed and does not say how far partition %d was applied", id, d.Slot.Partition)
		}
		if !ev.Opened[id] {
			r.add("P1", "request %s is closed and has no PENDING entry", id)
		}
	}
	for i, g := range ev.generations() {
		for _, rec := range g.Log {
			d, closed := want.closed[rec.ID]
			if closed && int(d.Generation) == i+1 && rec.Partition == d.Slot.Partition && rec.Offset < d.ClosedAt {
				r.add("R5", "request %s was closed when partition %d was applied up to %d, its record lies at %d", rec.ID,
					rec.Partition, d.ClosedAt, rec.Offset)
			}
		}
	}
}

// checkOrphans is I5 for requests without a record: when faults have been over for long enough, none is PENDING.
func checkOrphans(r *Report, want replayed, ev *Evidence, orphans Orphans) {
	if orphans == OrphansAllowed {
		return
	}
	for id := range ev.Opened {
		if _, logged := want.decisions[id]; !logged && !ev.States[id].Status.Terminal() {
			r.add("I5", "request %s is not in the log and still %q", id, ev.States[id].Status)
		}
	}
}
