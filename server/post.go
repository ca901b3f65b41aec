package server

import (
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"tradestore/trade"
)

// postOverhead is what a post costs in memory beside its body: buffers, the record, bookkeeping.
const postOverhead = 2 << 10

// The stages of a post. A stage is left by compare-and-swap: the handler that gives up and the flush that goes on must
// agree on what has happened.
const (
	queued    int32 = iota // nothing was sent: the call has no effect
	opening                // PENDING was, or is being, sent
	producing              // the record was handed to the producer
	abandoned              // the client was answered: nothing may be sent any more
)

// pendingPost is a trade between its arrival and its answer. It shares no memory with the HTTP connection (C7).
type pendingPost struct {
	req     trade.Request
	keyed   *keyed // nil without an idempotency key
	cost    int    // bytes held until the answer: the connection keeps the body as long as its handler waits
	arrived time.Time
	span    trace.Span // nil: not traced
	answers *answers   // of the flush that takes it
	stage   atomic.Int32
	replied atomic.Bool
	answer  chan answer // has room for this post's answer, which is written once: a reply never blocks
	index   int         // among the items of a bulk request

	produced bool // the producer has the record, so the delivery callback answers; for the flush alone

	// Of the queue.
	handedOver time.Time // to the producer; zero before
	released   bool      // it holds nothing any more
}

// answer is what became of a post. Without a code, all in-sync replicas have the record.
type answer struct {
	of       *pendingPost
	code     trade.Code
	detail   string
	stored   trade.Stored // instead of a stale version, where known
	replayed bool         // by an earlier call with the same key
}

// giveUp ends the wait of the handler and returns the answer for the client. After it the flush sends nothing more for
// the post, except a record that the producer already has.
func (p *pendingPost) giveUp() answer {
	if p.stage.Swap(abandoned) == queued {
		return answer{of: p, code: DeadlineExceeded}
	}
	return answer{of: p, code: DeliveryUnknown}
}

// refusal returns the problem of a post that was not accepted.
func (p *pendingPost) refusal(a answer) problem {
	refused := problem{code: a.code, detail: a.detail}
	switch a.code {
	case trade.StaleVersion:
		refused.stored = a.stored
		refused.violations = []trade.Violation{{Field: "version", Code: trade.StaleVersion, Detail: a.detail}}
	case trade.MaturityInPast:
		refused = *ofInvalid(p.keyed.matured)
	case IdempotencyKeyReused, IdempotencyKeyExhausted:
	case RequestInProgress:
		refused.requestID = p.req.ID
		refused.detail = "repeat the request later, or ask for the request_id"
	case DeliveryUnknown:
		refused.requestID = p.req.ID
		refused.detail = "ask for the request_id: 404 means that the call had no effect"
	case DeadlineExceeded:
		refused.detail = "the call had no effect; the setting accept-deadline limits the wait"
	case NotReady:
		refused.detail = notReadyDetail
	case LogUnavailable:
		refused.detail = "the call had no effect; the log takes no trades of this trade id now: repeat it later"
	case RequestStoreUnavailable:
		refused.detail = "the call had no effect; repeat it later"
	default: // a panic in the flush
		refused.detail = "a fault in the service; the effect of the call is unknown"
	}
	return refused
}
