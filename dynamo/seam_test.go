package dynamo

import (
	"context"
	"testing"

	"tradestore/test/conformance"
	"tradestore/trade"
)

// decide ends requests as this request log learns of it.
func (l *testLog) decide(ctx context.Context, ends []conformance.End) error {
	outcomes := make([]trade.Outcome, len(ends))
	for i, e := range ends {
		outcomes[i] = decided(e.Request, e.Status, e.Reason)
	}
	return l.Settle(ctx, outcomes)
}

func TestRequestLogSeam(t *testing.T) {
	conformance.RequestLog(t, func(t *testing.T) conformance.LogSubject {
		l := newLog(t)
		calls := map[string]string{"Open": opBatchWrite, "Get": opGet, "Ended": opBatchGet, "Decide": opStatements}
		return conformance.LogSubject{
			Log:    l,
			Decide: l.decide,
			Hurt: func(_ *testing.T, method string, when conformance.When) {
				l.proxy.next(calls[method], map[conformance.When]fault{conformance.Before: resetBefore, conformance.After: resetAfter}[when])
			},
		}
	})
}

func TestKeyedRequestLogSeam(t *testing.T) {
	conformance.KeyedRequestLog(t, func(t *testing.T) conformance.KeyedSubject {
		l := newLog(t)
		calls := map[string]string{"OpenKeyed": opPut, "GetKeyed": opBatchGet}
		return conformance.KeyedSubject{
			Log:    l,
			Decide: l.decide,
			Hurt: func(_ *testing.T, method string, when conformance.When) {
				l.proxy.next(calls[method], map[conformance.When]fault{conformance.Before: resetBefore, conformance.After: resetAfter}[when])
			},
		}
	})
}
