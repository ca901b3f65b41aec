package server

import (
	"context"
	"time"

	"tradestore/trade"
)

// RequestLog tracks every request from PENDING to its end and answers what became of it. Its methods may be called
// concurrently. The caller never repeats Open: a late copy of a PENDING entry could undo a terminal state.
type RequestStore interface {
	// Open stores a PENDING entry for each request; all ids are fresh. A nil result means every entry is durable.
	// Otherwise it has one error per request, in the order given: nil for an entry that is durable, an error that
	// wraps trade.ErrNotOpened for one that certainly does not exist, any other for one that may exist or still appear.
	Open(ctx context.Context, batch []*trade.Request) []error
	// Get reads a request, strongly consistent with every Open and every committed outcome before the call.
	// Errors: trade.ErrNotFound; any other means that the log can't answer now.
	Get(ctx context.Context, id trade.RequestID) (trade.RequestState, error)
	// Ended returns the states of those of the requests given that have ended, in any order, as consistent as Get. One that
	// is unknown counts as not ended. Any error means that the log can't answer now.
	Ended(ctx context.Context, ids []trade.RequestID) ([]trade.RequestState, error)
	// PendingOf returns up to limit requests of one trade that are PENDING, the oldest first; none that had an outcome
	// before the call. It looks no further than is cheap, so some may be missing. Any error means that the log can't
	// answer now.
	PendingOf(ctx context.Context, tradeID string, limit int) ([]trade.PendingRequest, error)
}

// KeyedLog is the part of the request store that requests under idempotency keys need. The id of such a request is derived
// from its key, so the entry of the request is the record of the key. An entry whose life is over counts as absent. The
// methods may be called concurrently.
type KeyedStore interface {
	// OpenKeyed stores a PENDING entry for each request that has none yet, with the hash of its payload. A nil result
	// means every entry is durable. Otherwise it has one error per request, in the order given: nil for an entry that is
	// durable, one that wraps trade.ErrKeyTaken if the id has an entry already, trade.ErrNotOpened for an entry that
	// certainly does not exist, any other for one that may exist or still appear. Several requests may have the same id:
	// one of them at most gets nil, however many calls there are at once. The log may send what it got no answer to again;
	// an entry that a copy has made is known by the nonce of the request.
	OpenKeyed(ctx context.Context, batch []*trade.KeyedRequest) []error
	// GetKeyed returns where those of the ids that have an entry stand, strongly consistent with every OpenKeyed and every
	// outcome that was shown before the call. Any error means that the log can't answer now.
	GetKeyed(ctx context.Context, ids []trade.RequestID) (map[trade.RequestID]trade.KeyedState, error)
}

// TradeReader reads stored trades. Its methods may be called concurrently; the caller repeats nothing. Any error means
// that the store can't answer now.
type TradeReader interface {
	// MaxVersions returns the highest committed version of each trade id that is stored; ids without one are absent.
	// It reads the writer, never a replica: a stale maximum may miss a refusal, an invented one would refuse good trades.
	MaxVersions(ctx context.Context, tradeIDs []string) (map[string]int32, error)
	// Versions returns all stored versions of one trade, ascending; none for an unknown trade.
	Versions(ctx context.Context, tradeID string) ([]trade.Trade, error)
	// Newest returns the highest committed version of each trade id that is stored, and the request that stored it.
	Newest(ctx context.Context, tradeIDs []string) (map[string]trade.Stored, error)
	// List returns up to limit trades that match the filter, after the key given, ascending by key; the zero key starts at
	// the beginning. next is the key to go on after, zero when there are no more. Each call looks at a bounded number of
	// rows, so a page may be short, or empty, and have a next all the same.
	List(ctx context.Context, f trade.Filter, after trade.Key, limit int) (page []trade.Trade, next trade.Key, err error)
	// AsOf returns the versions of one trade as they were stored at an instant, ascending; none if none was. An error that
	// wraps trade.ErrForgotten means that this is not known any more.
	AsOf(ctx context.Context, tradeID string, at time.Time) ([]trade.Trade, error)
	// History returns up to limit decided submissions of one trade behind the place given, in log order, as far back as
	// they are remembered; the zero place starts at the first.
	History(ctx context.Context, tradeID string, after trade.HistoryPosition, limit int) ([]trade.HistoryEntry, error)
}

// Journal is how far the log is applied and what was decided, in the order of the log. Its methods may be called
// concurrently; the caller repeats nothing. Any error means that the store can't answer now.
type Journal interface {
	// Positions returns the position of every partition of the topic, ascending by partition.
	Positions(ctx context.Context) ([]trade.Position, error)
	// After returns the outcomes of each partition given, of its generation, from its position on: up to limit of each, in
	// the order of their offsets. A position may be given many times, and those of former generations too. None is left out
	// that lies before one that was returned: a partition is applied in order.
	After(ctx context.Context, from []trade.Position, limit int) ([]trade.Decision, error)
}
