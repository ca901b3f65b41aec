package dynamo

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"tradestore/trade"
)

// Open stores a PENDING item for each request, 25 to a call and several calls at once; all ids must be fresh. A nil
// result means that every item is durable. Otherwise it has one error per request: one that wraps trade.ErrNotOpened for
// an item that certainly does not exist, any other for one that may exist or still appear.
//
// What DynamoDB did not take it is given again, with backoff, until ctx ends. A call without an answer is never sent
// again: its first copy may be late, and would put PENDING over the end of the request (rule C3).
func (l *RequestStore) Open(ctx context.Context, batch []*trade.Request) []error {
	errs := make([]error, len(batch))
	l.inBatches(len(batch), func(from, to int) { l.openBatch(ctx, batch[from:to], errs[from:to]) })
	if !slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		return nil
	}
	return errs
}

var errNoCapacity = errors.New("DynamoDB has no capacity for them now")

// openBatch opens what fits into one call and leaves an error in errs for each request that it can't vouch for.
func (l *RequestStore) openBatch(ctx context.Context, batch []*trade.Request, errs []error) {
	left := make(map[string]int, len(batch)) // position in batch by id: what is neither stored nor given up
	writes := make([]types.WriteRequest, len(batch))
	for i, r := range batch {
		left[r.ID.String()] = i
		writes[i].PutRequest = &types.PutRequest{Item: pendingItem(r)}
	}
	giveUp := func(format string, args ...any) {
		err := fmt.Errorf("cannot open %d requests: "+format, append([]any{len(left)}, args...)...)
		for _, i := range left {
			errs[i] = err
		}
	}
	for try := 0; ; try++ {
		if ctx.Err() != nil {
			giveUp("%w: %w", trade.ErrNotOpened, context.Cause(ctx))
			return
		}
		out, err := call(ctx, l, opBatchWrite, &dynamodb.BatchWriteItemInput{
			RequestItems: map[string][]types.WriteRequest{l.cfg.Table: writes},
		}, l.client.BatchWriteItem)
		switch resultOf(err) {
		case done:
			writes = out.UnprocessedItems[l.cfg.Table]
			l.metrics.unprocessed.Add(float64(len(writes)))
		case throttled:
			l.metrics.throttled[opBatchWrite].Add(float64(len(writes)))
		case refused, unsent:
			giveUp("%w: %w", trade.ErrNotOpened, err)
			return
		default:
			giveUp("no answer that tells: %w", err)
			return
		}
		if left = remaining(left, writes); len(left) == 0 {
			return
		}
		if !pause(ctx, try) {
			giveUp("%w: %w", trade.ErrNotOpened, errNoCapacity)
			return
		}
	}
}

// remaining returns those of left whose items are in writes.
func remaining(left map[string]int, writes []types.WriteRequest) map[string]int {
	still := make(map[string]int, len(writes))
	for _, w := range writes {
		if w.PutRequest == nil {
			continue
		}
		id := (&reader{item: w.PutRequest.Item}).optional(attrID)
		if i, ok := left[id]; ok {
			still[id] = i
		}
	}
	return still
}
