package dynamo

import (
	"context"
	"testing"

	"tradestore/seamtest"
	"tradestore/trade"
)

// decide ends requests as this request log learns of it.
func (l *testLog) decide(ctx context.Context, ends []seamtest.End) error {
	outcomes := make([]trade.Outcome, len(ends))
	for i, e := range ends {
		outcomes[i] = decided(e.Request, e.Status, e.Reason)
	}
	return l.Settle(ctx, outcomes)
}

func TestRequestLogSeam(t *testing.T) {
	seamtest.RequestLog(t, func(t *testing.T) seamtest.LogSubject {
		l := newLog(t)
		calls := map[string]string{"Open": opBatchWrite, "Get": opGet, "Ended": opBatchGet, "Decide": opStatements}
		return seamtest.LogSubject{
			Log:    l,
			Decide: l.decide,
			Hurt: func(_ *testing.T, method string, when seamtest.When) {
				l.proxy.next(calls[method], map[seamtest.When]fault{seamtest.Before: resetBefore, seamtest.After: resetAfter}[when])
			},
		}
	})
}

func TestKeyedRequestLogSeam(t *testing.T) {
	seamtest.KeyedRequestLog(t, func(t *testing.T) seamtest.KeyedSubject {
		l := newLog(t)
		calls := map[string]string{"OpenKeyed": opPut, "GetKeyed": opBatchGet}
		return seamtest.KeyedSubject{
			Log:    l,
			Decide: l.decide,
			Hurt: func(_ *testing.T, method string, when seamtest.When) {
				l.proxy.next(calls[method], map[seamtest.When]fault{seamtest.Before: resetBefore, seamtest.After: resetAfter}[when])
			},
		}
	})
}
