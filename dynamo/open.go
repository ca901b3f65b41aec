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

// Open stores a PENDING item for each request, 25 to a call and several calls at once. All ids must be fresh. A nil
// result means that every item is durable. Otherwise it has one error per request: nil for an item that is durable, one
// that wraps trade.ErrNotOpened for an item that certainly does not exist, any other for one that may exist or still
// appear.
//
// Items that DynamoDB did not take are sent again, with backoff, until ctx ends. A call without an answer is never sent
// again: its first copy may arrive late and overwrite the terminal state with PENDING (rule C3).
func (s *RequestStore) Open(ctx context.Context, batch []*trade.Request) []error {
	errs := make([]error, len(batch))
	s.forEachBatch(len(batch), func(from, to int) { s.openBatch(ctx, batch[from:to], errs[from:to]) })
	if !slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		return nil
	}
	return errs
}

var errNoCapacity = errors.New("DynamoDB has no capacity for them now")

// openBatch opens the requests of one call. It sets an error in errs for each request that may not be stored.
func (s *RequestStore) openBatch(ctx context.Context, batch []*trade.Request, errs []error) {
	left := make(map[string]int, len(batch)) // index in batch by id, of requests that are neither stored nor given up
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
		out, err := call(ctx, s, opBatchWrite, &dynamodb.BatchWriteItemInput{
			RequestItems: map[string][]types.WriteRequest{s.cfg.Table: writes},
		}, s.client.BatchWriteItem)
		switch resultOf(err) {
		case done:
			writes = out.UnprocessedItems[s.cfg.Table]
			s.metrics.unprocessed.Add(float64(len(writes)))
		case throttled:
			s.metrics.throttled[opBatchWrite].Add(float64(len(writes)))
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
