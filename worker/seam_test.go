package worker

import (
	"context"
	"errors"
	"maps"
	"testing"

	"tradestore/test/conformance"
	"tradestore/trade"
)

// visible lets clients see outcomes before the cursor moves over them, as the fake demands of the projector.
type visible struct{ *fake }

func (s visible) Projected(ctx context.Context, outcomes []trade.Decision) error {
	return errors.Join(s.Project(ctx, outcomes), s.fake.Projected(ctx, outcomes))
}

// The fake that the tests of the loops stand on keeps the contract that PostgreSQL keeps.
func TestTheFakeIsATradeStore(t *testing.T) {
	conformance.TradeStore(t, func(t *testing.T) conformance.StoreSubject {
		f := newFake(t, trade.TopicID{1}, 2)
		return conformance.StoreSubject{
			Store: visible{f},
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
