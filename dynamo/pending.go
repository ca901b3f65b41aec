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

// pendingIndex has the PENDING items and no others, the oldest first within each shard.
const pendingIndex = "pending-index"

// endOfTime lies behind every request, also those of a server whose clock is ahead.
var endOfTime = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// getSize is the most items that DynamoDB reads in one call.
const getSize = 100

// candidate is an entry of the index.
type candidate struct{ id, acceptedAt string }

// Pending returns up to limit requests of the given partitions (ascending) that were accepted before the given instant
// and are PENDING, the oldest first (rule R1). The index is asked anew each time and has every PENDING item, so one
// that was opened late is found like any other. It may lag behind, so each item is read again, consistently: none that was
// projected before the call is in the result. One that was opened a moment ago may be missing. An error means that
// DynamoDB can't answer now.
func (s *RequestStore) Pending(
	ctx context.Context, partitions []int32, before time.Time, limit int,
) ([]trade.PendingRequest, error) {
	// The index does not have the partition. The more requests are of others, the more are read.
	for want := limit; len(partitions) > 0; want *= 2 {
		all, more, err := s.oldestPending(ctx, before, want)
		if err != nil {
			return nil, err
		}
		pending := slices.DeleteFunc(all, func(p trade.PendingRequest) bool {
			_, held := slices.BinarySearch(partitions, p.Partition)
			return !held
		})
		if len(pending) >= limit || !more {
			return pending[:min(limit, len(pending))], nil
		}
	}
	return nil, nil
}

// Undecided returns up to limit requests that are PENDING, whenever they were accepted and in whichever partition, the
// oldest first. It reads them as Pending does.
func (s *RequestStore) Undecided(ctx context.Context, limit int) ([]trade.PendingRequest, error) {
	pending, _, err := s.oldestPending(ctx, endOfTime, limit)
	return pending, err
}

// oldestPending reads up to limit requests of all partitions. more says that there may be more of them.
func (s *RequestStore) oldestPending(
	ctx context.Context, before time.Time, limit int,
) (all []trade.PendingRequest, more bool, err error) {
	found, err := s.candidates(ctx, before, limit)
	if err != nil {
		return nil, false, fmt.Errorf("cannot list pending requests: %w", err)
	}
	pending := make([]trade.PendingRequest, 0, len(found))
	for part := range slices.Chunk(found, getSize) {
		items, err := s.getAll(ctx, part)
		if err != nil {
			return nil, false, fmt.Errorf("cannot read pending requests: %w", err)
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
			if r.err != nil { // an invalid item must not hide the others
				s.log.Error().Err(r.err).Str("request_id", r.optional(attrID)).Msg("cannot read a pending request")
				continue
			}
			pending = append(pending, p)
		}
	}
	slices.SortFunc(pending, func(a, b trade.PendingRequest) int { return a.AcceptedAt.Compare(b.AcceptedAt) })
	return pending, len(found) >= limit, nil
}

// pendingOfScan is how many PENDING requests PendingOf reads.
const pendingOfScan = 100

// PendingOf returns up to limit requests of one trade that are PENDING, the oldest first. The index does not have the
// trade, so PendingOf reads its 100 oldest requests; without a backlog that is all of them. One that was opened a
// moment ago may be missing. An error means that DynamoDB can't answer now.
func (s *RequestStore) PendingOf(ctx context.Context, tradeID string, limit int) ([]trade.PendingRequest, error) {
	pending, err := s.Undecided(ctx, pendingOfScan)
	if err != nil {
		return nil, err
	}
	pending = slices.DeleteFunc(pending, func(p trade.PendingRequest) bool { return p.TradeID != tradeID })
	return pending[:min(limit, len(pending))], nil
}

// candidates merges the oldest entries of all shards.
func (s *RequestStore) candidates(ctx context.Context, before time.Time, limit int) ([]candidate, error) {
	shards := make([][]candidate, pendingShards)
	calls, ctx := errgroup.WithContext(ctx)
	calls.SetLimit(s.cfg.Calls)
	for n := range shards {
		calls.Go(func() (err error) {
			shards[n], err = s.oldest(ctx, shard(n), before, limit)
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

// oldest returns up to limit entries of one shard.
func (s *RequestStore) oldest(ctx context.Context, key string, before time.Time, limit int) ([]candidate, error) {
	var found []candidate
	var from attributes
	for {
		out, err := call(ctx, s, opQuery, &dynamodb.QueryInput{
			TableName:                 aws.String(s.cfg.Table),
			IndexName:                 aws.String(pendingIndex),
			KeyConditionExpression:    aws.String(attrPending + " = :shard AND " + attrAcceptedAt + " < :before"),
			ExpressionAttributeValues: attributes{":shard": text(key), ":before": instant(before)},
			ExclusiveStartKey:         from,
			Limit:                     aws.Int32(int32(limit - len(found))),
		}, s.client.Query, s.retry)
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

// getAll reads up to getSize items consistently. Items that are gone are left out.
func (s *RequestStore) getAll(ctx context.Context, ids []candidate) ([]attributes, error) {
	keys := make([]attributes, len(ids))
	for i, c := range ids {
		keys[i] = attributes{attrID: text(c.id)}
	}
	var items []attributes
	for try := 0; ; try++ {
		out, err := call(ctx, s, opBatchGet, &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{
			s.cfg.Table: {Keys: keys, ConsistentRead: aws.Bool(true)},
		}}, s.client.BatchGetItem, s.retry)
		if err != nil {
			return nil, err
		}
		items = append(items, out.Responses[s.cfg.Table]...)
		if keys = out.UnprocessedKeys[s.cfg.Table].Keys; len(keys) == 0 {
			return items, nil
		}
		if !pause(ctx, try) {
			return nil, errNoCapacity
		}
	}
}
