package server

import (
	"context"
	"time"

	"tradestore/internal/failpoint"
	"tradestore/kafka"
	"tradestore/trade"
)

// The faults below are built in a binary with failpoints and in no other. Each breaks one promise of a 202, so that the
// load test can be seen to notice.

// plantDelivery spoils the delivery of a record and says whether it must not be produced any more.
func (b *batcher) injectDelivery(s *pendingPost) (done bool) {
	if failpoint.Injected("answerEarly") { // a crash before the record is sent loses a trade that was accepted
		b.reply(s, answer{})
		time.AfterFunc(100*time.Millisecond, func() {
			b.client.TryProduce(context.Background(), kafka.Encode(b.cfg.Topic, &s.req), nil)
		})
		return true
	}
	if failpoint.Injected("doubleRecord") {
		twin := s.req
		twin.ID = trade.NewRequestID(s.req.AcceptedAt)
		b.client.TryProduce(context.Background(), kafka.Encode(b.cfg.Topic, &twin), nil)
	}
	if failpoint.Injected("dropRecord") {
		b.reply(s, answer{})
		return true
	}
	return false
}

// plantStatus spoils what is shown of a request.
func injectStatus(state *trade.RequestState) {
	if state.Status == trade.Success && failpoint.Injected("flipStatus") {
		state.Status, state.Reason, state.Detail = trade.Failed, trade.StaleVersion, trade.StaleDetail(state.Version, state.Version+1)
	}
}
