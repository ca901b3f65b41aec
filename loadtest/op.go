package loadtest

import (
	"time"

	"tradestore/trade"
)

// Kind says what an operation is and which answers are right.
type Kind uint8

// The kinds of operations. All but New, Past and Bad refer to an earlier New operation.
const (
	New         Kind   = iota // a trade that nobody sent before: 202
	Higher                    // a higher version of one: 202
	Replace                   // the same version of one with other fields: 202
	Stale                     // a lower version: 400 STALE_VERSION, or 202 with outcome FAILED
	Past                      // a maturity that has passed: 400 MATURITY_IN_PAST
	Bad                       // a body that is no trade: a 4xx with the code that says why
	ReadTrade                 // GET of a trade: 200, or 404 while it is not stored yet
	ReadRequest               // GET of a request: 200
	Kinds       = iota        // how many there are
)

// Op is one request to the server.
type Op struct {
	Seq   uint64
	Kind  Kind
	Of    uint64      // Seq of the New operation that it refers to; its own for New
	Trade trade.Trade // in Body; for Bad the zero value, for reads the requested trade

	Method      string
	Path        string // for ReadRequest without the request id, which only a run knows
	Body        []byte // nil for reads
	ContentType string // of Body

	Status []int      // right answers. 503 counts as an error, not as a wrong answer
	Code   trade.Code // of the 4xx among them; empty: any
}

// Result is an operation and its answer. Times count from the start of the run, on the monotonic clock.
type Result struct {
	Seq      uint64
	Kind     Kind
	Due      time.Duration // by the schedule
	Sent     time.Duration // when it was
	Done     time.Duration // when its answer was read or the operation failed
	Status   uint16        // 0: no answer
	Code     trade.Code    // of a problem
	Request  trade.RequestID
	BytesIn  uint32
	BytesOut uint32
	Err      string // why there was no answer
}

// Latency counts from the due time, so that a stalled generator or server hides nothing.
func (r *Result) Latency() time.Duration { return r.Done - r.Due }

// Verdict is what an answer to a POST says about its effect.
type Verdict uint8

// The verdicts.
const (
	Unknown  Verdict = iota // no answer, 500, 409, 503 with a request id: it may exist
	Accepted                // 202: it is decided exactly once
	Refused                 // any other 4xx, 503 without a request id: it has no effect
)

// Verdict says what the answer means, by the promises of the API.
func (r *Result) Verdict() Verdict {
	switch {
	case r.Status == 202:
		return Accepted
	case r.Status == 409:
		return Unknown
	case r.Status >= 400 && r.Status < 500, r.Status == 503 && r.Request.IsZero():
		return Refused
	}
	return Unknown
}
