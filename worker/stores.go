package worker

import (
	"context"
	"time"

	"tradestore/trade"
)

// TradeStore applies batches of the log. Its methods may be called concurrently; the caller repeats them by the class
// of the error (trade.ClassOf).
type TradeStore interface {
	// Positions returns the position of every partition of the topic's current generation, ascending by partition.
	Positions(ctx context.Context) ([]trade.Position, error)
	// Apply decides and stores one batch in one transaction: positions, trades, journal and dead letters are durable
	// together when it returns nil, and none of them is when it returns an error of any class but CommitUnknown.
	Apply(ctx context.Context, batch *trade.Batch) (trade.Applied, error)
}

// Journal holds the decided requests, with a cursor per partition that says how far they are projected. Projectors of
// several workers may use it at once: a cursor only moves forward.
type Journal interface {
	// Unprojected returns up to limit outcomes behind the cursors of the partitions given, each partition in offset
	// order; all of the partition's earlier outcomes are projected or in the result. A long backlog of one partition does
	// not take the place of the others.
	Unprojected(ctx context.Context, partitions []int32, limit int) ([]trade.Decision, error)
	// Projected moves the cursors past the outcomes given, which came from one call of Unprojected.
	Projected(ctx context.Context, outcomes []trade.Decision) error
	// Pass moves the cursors of the partitions given to their positions: past all outcomes, which clients can see.
	Pass(ctx context.Context, partitions []int32) error
}

// OrphanCloser decides requests whose record never reached the log. Its methods may be called concurrently, also by the
// orphan reapers of several workers for the same requests.
type OrphanCloser interface {
	// Decisions returns the outcomes of those of the requests given that have one, committed before the call.
	Decisions(ctx context.Context, requests []trade.PendingRequest) ([]trade.Decision, error)
	// Close makes each request that has no outcome FAILED(NOT_DELIVERED), in one transaction, under the lock that Apply
	// takes first, and returns the outcomes of all of them; those that had one keep it. Requests of a day that the journal
	// has dropped may have had one: they are left as they are, and out of the result. All requests are of the partition
	// given, which must be applied up to end: if it is not, the error has class Fenced and nothing was changed (rule R4).
	Close(ctx context.Context, topic trade.TopicID, partition int32, end int64,
		requests []trade.PendingRequest) ([]trade.Decision, error)
}

// RequestStore is where clients read outcomes.
type RequestStore interface {
	// Pending returns up to limit requests of the partitions given (ascending) that were accepted before the instant given
	// and are PENDING, the oldest first. None that was projected before the call is in the result. One may be missing for
	// a while, but not for ever, however late it was opened.
	Pending(ctx context.Context, partitions []int32, before time.Time, limit int) ([]trade.PendingRequest, error)
	// Project makes each outcome visible, where the entry is still PENDING. It never changes a terminal state and never
	// creates an entry. Repeating it is safe; nil means that all outcomes are visible and durable. An error that is a
	// *trade.NotProjected says which are not; after any other, none may be.
	Project(ctx context.Context, outcomes []trade.Decision) error
}

// Maintainer makes, summarizes and drops the day partitions of the tables. One worker at a time does the work; for the
// others the calls do nothing.
type Maintainer interface {
	// Clock returns the time of the clock of the database, which all workers share.
	Clock(ctx context.Context) (time.Time, error)
	// MakeDays creates the partitions of the days from now on that the journal and the request store will need.
	MakeDays(ctx context.Context, now time.Time) error
	// Sweep deletes what is older than the retention, in bounded steps, and returns how many days and rows it deleted.
	// A request that is still PENDING is never deleted.
	Sweep(ctx context.Context, now time.Time, r trade.Retention) (trade.Swept, error)
	// Summarize makes the summaries, by which a history skips pages, of what was inserted since its last call, and returns
	// of how many ranges.
	Summarize(ctx context.Context) (int, error)
}
