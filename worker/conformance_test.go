package worker

import (
	"context"
	"errors"
	"maps"
	"testing"

	"tradestore/test/conformance"
	"tradestore/trade"
)

// projecting projects outcomes before the cursor moves over them, as the fake expects of the projector.
type projecting struct{ *fake }

func (s projecting) Projected(ctx context.Context, outcomes []trade.Decision) error {
	return errors.Join(s.Project(ctx, outcomes), s.fake.Projected(ctx, outcomes))
}

// The fake that the tests use keeps the same contract as PostgreSQL.
func TestTheFakeIsATradeStore(t *testing.T) {
	t.Parallel()
	conformance.TradeStore(t, func(t *testing.T) conformance.StoreSubject {
		f := newFake(t, trade.TopicID{1}, 2)
		return conformance.StoreSubject{
			Store: projecting{f},
			Trades: func(*testing.T) map[trade.Key]trade.Trade {
				f.mu.Lock()
				defer f.mu.Unlock()
				return maps.Clone(f.trades)
			},
			Hurt: func(_ *testing.T, when conformance.When) {
				f.failing(func(call string, _ int, after bool, _ *trade.Batch) error {
					if call != "Apply" || after != (when == conformance.After) {
						return nil
					}
					f.failing(nil)
					return trade.Classed(trade.CommitUnknown, "the connection broke")
				})
			},
		}
	})
}
