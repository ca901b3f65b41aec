package server

import (
	"context"
	"time"

	"tradestore/trade"
)

// RequestStore tracks every request from PENDING to its outcome. Its methods may be called concurrently. The caller
// never repeats Open: a late copy of a PENDING entry could undo a terminal state (rule C3).
type RequestStore interface {
	// Open stores a PENDING entry for each request; all ids are fresh. A nil result means every entry is durable.
	// Otherwise it has one error per request, in the order given: nil for an entry that is durable, an error that
	// wraps trade.ErrNotOpened for one that certainly does not exist, any other for one that may exist or still appear.
	Open(ctx context.Context, batch []*trade.Request) []error
	// Get reads a request, strongly consistent with every Open and every committed outcome before the call.
	// Errors: trade.ErrNotFound; any other means that the store can't answer now.
	Get(ctx context.Context, id trade.RequestID) (trade.RequestState, error)
	// Ended returns the states of the given requests that have ended, in any order, as consistent as Get. An unknown
	// request counts as not ended. Any error means that the store can't answer now.
	Ended(ctx context.Context, ids []trade.RequestID) ([]trade.RequestState, error)
	// PendingOf returns up to limit PENDING requests of one trade, the oldest first; none that had an outcome before the
	// call. It bounds its cost, so some may be missing. Any error means that the store can't answer now.
	PendingOf(ctx context.Context, tradeID string, limit int) ([]trade.PendingRequest, error)
}

// KeyedStore is the part of the request store for requests under idempotency keys. The id of such a request is derived
// from its key, so the entry of the request is the record of the key. An expired entry counts as absent. The methods
// may be called concurrently.
type KeyedStore interface {
	// OpenKeyed stores a PENDING entry for each request that has none yet, with the hash of its payload. A nil result
	// means every entry is durable. Otherwise it has one error per request, in the order given: nil for an entry that is
	// durable, one that wraps trade.ErrKeyTaken if the id has an entry already, trade.ErrNotOpened for an entry that
	// certainly does not exist, any other for one that may exist or still appear. Several requests may have the same id:
	// at most one of them gets nil, however many calls there are at once. The store may repeat a put that got no answer;
	// by the nonce of the request it recognizes an entry that its first copy made.
	OpenKeyed(ctx context.Context, batch []*trade.KeyedRequest) []error
	// GetKeyed returns the states of the ids that have an entry, strongly consistent with every OpenKeyed and every
	// outcome that was shown before the call. Any error means that the store can't answer now.
	GetKeyed(ctx context.Context, ids []trade.RequestID) (map[trade.RequestID]trade.KeyedState, error)
}

// VersionLookUp finds the highest versions for the accept path. Its methods may be called concurrently; the caller
// repeats nothing. Any error means that the store can't answer now. It must not wait for other reads: see Deps.
type VersionLookUp interface {
	// MaxVersions returns the highest committed version of each trade id; an id that is not stored is absent. It reads the
	// writer, never a replica (rule C9).
	MaxVersions(ctx context.Context, tradeIDs []string) (map[string]int32, error)
	// Newest is MaxVersions with the requests that stored the versions.
	Newest(ctx context.Context, tradeIDs []string) (map[string]trade.Stored, error)
}

// TradeReader reads stored trades. Its methods may be called concurrently; the caller repeats nothing. Any error means
// that the store can't answer now.
type TradeReader interface {
	// Versions returns up to limit stored versions of one trade after the given one, ascending; none for an unknown trade.
	// next is the version to go on after, zero at the end.
	Versions(ctx context.Context, tradeID string, after int32, limit int) (page []trade.Trade, next int32, err error)
	// Newest is the one of VersionLookUp.
	Newest(ctx context.Context, tradeIDs []string) (map[string]trade.Stored, error)
	// List returns up to limit trades that match the filter, after the given key, ascending by key; the zero key starts at
	// the beginning. next is the key to go on after, zero at the end. Each call looks at a bounded number of rows, so a
	// page may be short, or empty, and have a next all the same.
	List(ctx context.Context, f trade.Filter, after trade.Key, limit int) (page []trade.Trade, next trade.Key, err error)
}

// PastReader reads what became of a trade, which may take much longer than other reads: at most MaxPastReads calls run
// at once. Any error means that the store can't answer now, unless it says otherwise.
type PastReader interface {
	// AsOf returns the versions of one trade after the given one, as they were stored at an instant, ascending; none if
	// none was. It looks at up to limit versions, so a page may be short, or empty, and have a next all the same. next is
	// the version to go on after, zero at the end. An error that wraps trade.ErrForgotten means that the journal does not
	// reach back to the instant, one that wraps trade.ErrFuture that it has not come yet.
	AsOf(ctx context.Context, tradeID string, at time.Time, after int32, limit int) (
		page []trade.Trade, next int32, err error)
	// History returns up to limit decided submissions of one trade behind the given position, in log order, as far back as
	// the journal reaches; the zero position starts at the first. next is the position to go on after, zero at the end. A
	// page may be short, or empty, and have a next all the same.
	History(ctx context.Context, tradeID string, after trade.HistoryPosition, limit int) (
		page []trade.HistoryEntry, next trade.HistoryPosition, err error)
}

// Journal reads how far the log is applied and what was decided, in the order of the log. Its methods may be called
// concurrently; the caller repeats nothing. Any error means that the store can't answer now.
type Journal interface {
	// Positions returns the position of every partition of the topic, ascending by partition.
	Positions(ctx context.Context) ([]trade.Position, error)
	// After returns the journal rows of each given partition and generation, from its position on: up to limit of each, in
	// the order of their offsets. Positions of former generations are allowed, and repeated ones. No row before a returned
	// one is left out: a partition is applied in order.
	After(ctx context.Context, from []trade.Position, limit int) ([]trade.Decision, error)
}
