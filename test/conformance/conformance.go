// Package conformance holds the contracts of the interfaces as tests: one suite for each, which runs on every
// implementation. A suite knows only the contract. The implementation gives it a new, empty subject and a way to inject
// faults.
package conformance

import (
	"fmt"
	"sync/atomic"
	"time"

	"tradestore/trade"
)

// When is the moment at which a call fails.
type When int

// The moments.
const (
	Before When = iota // the store never receives the call
	After              // the store has done everything, and the caller gets no answer
)

// String returns the name of the test.
func (w When) String() string { return [...]string{"failed", "failed but persisted"}[w] }

var moments = []When{Before, After}

// now is when the requests of the suites are accepted, each a microsecond after the one before.
var (
	now = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	seq atomic.Int64
)

// NewRequest makes a request with a fresh id for the trade given, as the server does after its checks.
func NewRequest(tradeID string, version int32, partition int32) *trade.Request {
	n := seq.Add(1)
	accepted := now.Add(time.Duration(n) * time.Microsecond)
	today := trade.DateOf(accepted)
	return &trade.Request{
		ID: trade.NewRequestID(accepted), AcceptedAt: accepted, BusinessDate: today, Partition: partition,
		CorrelationID: fmt.Sprintf("call-%d", n),
		Trade: trade.Trade{TradeID: tradeID, Version: version, CounterpartyID: "CP-1", BookID: fmt.Sprintf("B-%d", n),
			MaturityDate: today + 30, CreatedDate: today},
	}
}
