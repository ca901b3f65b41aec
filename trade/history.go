package trade

import (
	"errors"
	"time"
)

// HistoryEntry is a decided request in the history of its trade.
type HistoryEntry struct {
	Decision
	Trade    Trade     // what was submitted; the zero value for a request whose record never reached the log
	ReplayOf RequestID // the request that this one repeats; zero for an ordinary one
	// Replaced is the request that stored the same version before; zero if there was none, or if it is forgotten.
	Replaced RequestID
}

// HistoryPosition is the position of an entry in a history: in the order of the log, generation after generation.
// Requests that were closed without a record come last in their generation.
type HistoryPosition struct {
	Generation int32
	Partition  int32 // of the trade in that generation; it is no part of the order
	Offset     int64 // LastOffset for a request that was closed without a record
	ID         RequestID
}

// LastOffset is greater than every offset of a log.
const LastOffset = 1<<63 - 1

// Position returns the position of s.
func (s *HistoryEntry) Position() HistoryPosition {
	if s.Offset == NoOffset {
		return HistoryPosition{s.Generation, s.Partition, LastOffset, s.ID}
	}
	return HistoryPosition{s.Generation, s.Partition, s.Offset, s.ID}
}

// ErrForgotten is returned for a question about a time before the oldest journal row.
var ErrForgotten = errors.New("what was stored then is not known any more")

// ErrFuture is returned for a question about a time that the clock of the database has not reached. That clock gives
// versions and decisions their times.
var ErrFuture = errors.New("this time has not come yet, by the clock of the database")

// StoredAt is a version of a trade that is stored now, or was stored in the past.
type StoredAt struct {
	Trade    Trade
	At       time.Time // when it was stored
	Replaces bool      // it took the place of an earlier submission of the same version, or may have done so
}

// AsOf returns the versions of a trade as they were stored at an instant, ascending. now holds the versions that are
// stored now, ascending; journal holds what was stored, in log order, without rows that are past their retention.
// Errors: ErrForgotten, when a version was replaced since then and the journal may no longer have what it replaced.
func AsOf(at time.Time, now, journal []StoredAt) ([]Trade, error) {
	var then []Trade
	for _, current := range now {
		if !current.At.After(at) {
			then = append(then, current.Trade)
			continue
		}
		var before, after *StoredAt
		for i := range journal {
			s := &journal[i]
			switch {
			case s.Trade.Version != current.Trade.Version:
			case !s.At.After(at):
				before = s
			case after == nil:
				after = s
			}
		}
		switch {
		case before != nil:
			then = append(then, before.Trade)
		case after == nil || after.Replaces:
			return nil, ErrForgotten
		}
	}
	return then, nil
}
