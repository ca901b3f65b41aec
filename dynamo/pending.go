package dynamo

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"golang.org/x/sync/errgroup"

	"tradestore/trade"
)

// pendingIndex holds the items that are PENDING and nothing else, oldest first within each shard.
const pendingIndex = "pending-index"

// endOfTime lies behind every request, also those of a server whose clock is ahead.
var endOfTime = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// getSize is the most items that DynamoDB reads in one call.
const getSize = 100

// candidate is an entry of the index.
type candidate struct{ id, acceptedAt string }

// Pending returns up to limit requests that were accepted before the instant given and are PENDING, the oldest first. The
// index may lag behind, so each is read again, consistently: none that was projected before the call is in the result,
// while one that was opened a moment ago may be missing. Errors: DynamoDB can't answer now.
func (l *RequestStore) Pending(ctx context.Context, before time.Time, limit int) ([]trade.PendingRequest, error) {
	found, err := l.candidates(ctx, before, limit)
	if err != nil {
		return nil, fmt.Errorf("cannot list pending requests: %w", err)
	}
	pending := make([]trade.PendingRequest, 0, len(found))
	for part := range slices.Chunk(found, getSize) {
		items, err := l.getAll(ctx, part)
		if err != nil {
			return nil, fmt.Errorf("cannot read pending requests: %w", err)
		}
		for _, item := range items {
			r := &reader{item: item}
			if r.text(attrStatus) != string(trade.Pending) {
				continue
			}
			p := trade.PendingRequest{
				ID:            r.id(attrID),
				AcceptedAt:    r.instant(attrAcceptedAt),
				Partition:     int32(r.number(attrPartition, 32)),
				TradeID:       r.text(attrTradeID),
				Version:       int32(r.number(attrVersion, 32)),
				CorrelationID: r.optional(attrCorrelationID),
				TraceParent:   r.optional(attrTraceParent),
			}
			if r.err != nil { // one that nobody can resolve must not hide the others
				l.log.Error().Err(r.err).Str("request_id", r.optional(attrID)).Msg("cannot read a pending request")
				continue
			}
			pending = append(pending, p)
		}
	}
	slices.SortFunc(pending, func(a, b trade.PendingRequest) int { return a.AcceptedAt.Compare(b.AcceptedAt) })
	return pending, nil
}

// lookedAt is how many PENDING requests PendingOf looks at.
const lookedAt = 100

// PendingOf returns up to limit requests of one trade that are PENDING, the oldest first. The index does not know trades, so
// it looks at the 100 oldest requests in it, which is all while nothing is behind. What was opened a moment ago may be
// missing. Errors: DynamoDB can't answer now.
func (l *RequestStore) PendingOf(ctx context.Context, tradeID string, limit int) ([]trade.PendingRequest, error) {
	pending, err := l.Pending(ctx, endOfTime, lookedAt)
	if err != nil {
		return nil, err
	}
	pending = slices.DeleteFunc(pending, func(p trade.PendingRequest) bool { return p.TradeID != tradeID })
	return pending[:min(limit, len(pending))], nil
}

// candidates merges the oldest entries of all shards.
func (l *RequestStore) candidates(ctx context.Context, before time.Time, limit int) ([]candidate, error) {
	shards := make([][]candidate, pendingShards)
	calls, ctx := errgroup.WithContext(ctx)
	calls.SetLimit(l.cfg.Calls)
	for n := range shards {
		calls.Go(func() (err error) {
			shards[n], err = l.oldest(ctx, shard(n), before, limit)
			return err
		})
	}
	if err := calls.Wait(); err != nil {
		return nil, err
	}
	all := slices.Concat(shards...)
	slices.SortFunc(all, func(a, b candidate) int { return cmp.Compare(a.acceptedAt, b.acceptedAt) })
	return all[:min(limit, len(all))], nil
}

// oldest returns up to limit entries of one shard. Limit bounds the page as well: there is nothing to filter.
func (l *RequestStore) oldest(ctx context.Context, key string, before time.Time, limit int) ([]candidate, error) {
	var found []candidate
	var from attributes
	for {
		out, err := call(ctx, l, opQuery, &dynamodb.QueryInput{
			TableName:                 aws.String(l.cfg.Table),
			IndexName:                 aws.String(pendingIndex),
			KeyConditionExpression:    aws.String(attrPending + " = :shard AND " + attrAcceptedAt + " < :before"),
			ExpressionAttributeValues: attributes{":shard": text(key), ":before": instant(before)},
			ExclusiveStartKey:         from,
			Limit:                     aws.Int32(int32(limit - len(found))),
		}, l.client.Query, l.again)
		if err != nil {
			return nil, err
		}
		for _, item := range out.Items {
			r := &reader{item: item}
			found = append(found, candidate{r.text(attrID), r.text(attrAcceptedAt)})
		}
		if from = out.LastEvaluatedKey; len(from) == 0 || len(found) >= limit {
			return found, nil
		}
	}
}

// getAll reads up to getSize items consistently, those that are gone left out.
func (l *RequestStore) getAll(ctx context.Context, ids []candidate) ([]attributes, error) {
	keys := make([]attributes, len(ids))
	for i, c := range ids {
		keys[i] = attributes{attrID: text(c.id)}
	}
	var items []attributes
	for try := 0; ; try++ {
		out, err := call(ctx, l, opBatchGet, &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{
			l.cfg.Table: {Keys: keys, ConsistentRead: aws.Bool(true)},
		}}, l.client.BatchGetItem, l.again)
		if err != nil {
			return nil, err
		}
		items = append(items, out.Responses[l.cfg.Table]...)
		if keys = out.UnprocessedKeys[l.cfg.Table].Keys; len(keys) == 0 {
			return items, nil
		}
		if !pause(ctx, try) {
			return nil, errNoCapacity
		}
	}
}
