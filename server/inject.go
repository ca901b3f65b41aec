package server

import (
	"context"
	"time"

	"tradestore/internal/failpoint"
	"tradestore/kafka"
	"tradestore/trade"
)

// Fault injection: only a binary with failpoints has it. Each fault breaks one promise of a 202, to show that the load
// test notices.

// injectDelivery breaks the delivery of a record. It says whether the record must not be produced any more.
func (f *flusher) injectDelivery(post *pendingPost) (done bool) {
	if failpoint.Injected("answerEarly") { // a crash before the record is sent loses a trade that was accepted
		f.reply(post, answer{})
		time.AfterFunc(100*time.Millisecond, func() {
			f.client.TryProduce(context.Background(), kafka.Encode(f.cfg.Topic, &post.req), nil)
		})
		return true
	}
	if failpoint.Injected("doubleRecord") {
		double := post.req
		double.ID = trade.NewRequestID(post.req.AcceptedAt)
		f.client.TryProduce(context.Background(), kafka.Encode(f.cfg.Topic, &double), nil)
	}
	if failpoint.Injected("dropRecord") {
		f.reply(post, answer{})
		return true
	}
	return false
}

// injectStatus changes the status that a client sees.
func injectStatus(state *trade.RequestState) {
	if state.Status == trade.Success && failpoint.Injected("flipStatus") {
		state.Status, state.Reason = trade.Failed, trade.StaleVersion
		state.Detail = trade.StaleDetail(state.Version, state.Version+1)
	}
}
