package trade

import (
	"errors"
	"time"
)

// Submission is a decided request as the history of its trade shows it.
type HistoryEntry struct {
	Decision
	Trade    Trade     // what was submitted; the zero value for a request whose record never reached the log
	ReplayOf RequestID // the request that this one repeats; zero for an ordinary one
	// Replaced is the request that stored the same version before; zero if there was none, or if it is forgotten.
	Replaced RequestID
}

// Place is where a submission stands in a history: in the order of the log, generation after generation. Requests that
// were closed without a record come last in theirs.
type HistoryPosition struct {
	Generation int32
	Offset     int64 // LastOffset for a request that was closed without a record
	ID         RequestID
}

// LastOffset lies behind every offset of a log.
const LastOffset = 1<<63 - 1

// Place returns where s stands.
func (s *HistoryEntry) Position() HistoryPosition {
	if s.Offset == NoOffset {
		return HistoryPosition{s.Generation, LastOffset, s.ID}
	}
	return HistoryPosition{s.Generation, s.Offset, s.ID}
}

// ErrForgotten is returned for a question about a time that the journal does not reach back to.
var ErrForgotten = errors.New("what was stored then is not known any more")

// StoredAt is a version of a trade that is stored now, or was stored once.
type StoredAt struct {
	Trade    Trade
	At       time.Time // when it was stored
	Replaces bool      // it took the place of an earlier submission of the same version, or may have done so
}

// AsOf returns the versions of a trade as they were stored at an instant, ascending. now holds the versions that are
// stored now, ascending; journal holds what was stored and is remembered, in log order, and may have forgotten its oldest
// rows. Errors: ErrForgotten, when a version has been replaced since and what it replaced may be forgotten.
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
