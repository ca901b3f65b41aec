package dynamo

import (
	"context"
	"testing"

	"tradestore/test/conformance"
	"tradestore/trade"
)

// decide decides requests by projecting their outcomes.
func (l *fixture) decide(ctx context.Context, ends []conformance.End) error {
	outcomes := make([]trade.Decision, len(ends))
	for i, e := range ends {
		outcomes[i] = decided(e.Request, e.Status, e.Reason)
	}
	return l.Project(ctx, outcomes)
}

var resets = map[conformance.When]fault{conformance.Before: resetBefore, conformance.After: resetAfter}

func TestRequestStoreConformance(t *testing.T) {
	conformance.RequestStore(t, func(t *testing.T) conformance.RequestStoreSubject {
		l := newFixture(t)
		calls := map[string]string{"Open": opBatchWrite, "Get": opGet, "Ended": opBatchGet, "Decide": opStatements}
		return conformance.RequestStoreSubject{
			Store:  l,
			Decide: l.decide,
			Hurt: func(_ *testing.T, method string, when conformance.When) {
				l.proxy.next(calls[method], resets[when])
			},
		}
	})
}

func TestKeyedRequestStoreConformance(t *testing.T) {
	conformance.KeyedRequestStore(t, func(t *testing.T) conformance.KeyedSubject {
		l := newFixture(t)
		calls := map[string]string{"OpenKeyed": opPut, "GetKeyed": opBatchGet}
		return conformance.KeyedSubject{
			Store:  l,
			Decide: l.decide,
			Hurt: func(_ *testing.T, method string, when conformance.When) {
				l.proxy.next(calls[method], resets[when])
			},
		}
	})
}
