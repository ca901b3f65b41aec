package dynamo

import (
	"context"
	"testing"

	"tradestore/test/conformance"
	"tradestore/trade"
)

// decide ends requests as this request store learns of it.
func (l *testLog) decide(ctx context.Context, ends []conformance.End) error {
	outcomes := make([]trade.Decision, len(ends))
	for i, e := range ends {
		outcomes[i] = decided(e.Request, e.Status, e.Reason)
	}
	return l.Project(ctx, outcomes)
}

func TestRequestStoreSeam(t *testing.T) {
	conformance.RequestStore(t, func(t *testing.T) conformance.LogSubject {
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

func TestKeyedRequestStoreSeam(t *testing.T) {
	conformance.KeyedRequestStore(t, func(t *testing.T) conformance.KeyedSubject {
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
