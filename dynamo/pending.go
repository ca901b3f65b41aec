package dynamo

import (
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
// that was opened late is found like any other. It may lag behind, so each item is read again, consistently: none that
// was projected before the call is in the result. One that was opened a moment ago may be missing. An error means that
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

// candidates returns up to limit entries, the oldest first. All shards are about equally full, so it reads the share of
// each and some to spare, and further pages only of those that turn out to have more of the oldest. So it reads and
// holds about twice the limit at most, however many requests are PENDING.
func (s *RequestStore) candidates(ctx context.Context, before time.Time, limit int) ([]candidate, error) {
	share := limit/pendingShards + 1
	spare := share/8 + 10
	shards := make([]shardPages, pendingShards)
	calls, limited := errgroup.WithContext(ctx)
	calls.SetLimit(s.cfg.Calls)
	for n := range shards {
		shards[n].key = shard(n)
		calls.Go(func() error { return s.nextPage(limited, &shards[n], before, share+spare) })
	}
	if err := calls.Wait(); err != nil {
		return nil, err
	}
	var all []candidate
	for len(all) < limit {
		oldest := &shards[0]
		for n := range shards {
			if shards[n].isOlderThan(oldest) {
				oldest = &shards[n]
			}
		}
		if len(oldest.page) == 0 { // those of all shards
			break
		}
		all = append(all, oldest.page[0])
		if oldest.page = oldest.page[1:]; len(oldest.page) == 0 && !oldest.ended {
			if err := s.nextPage(ctx, oldest, before, spare); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// shardPages reads one shard of the index page by page.
type shardPages struct {
	key   string
	from  attributes  // where the next page starts
	page  []candidate // of the page in hand; empty only at the end
	ended bool        // there is no other page
}

// isOlderThan says whether the next entry of p is older than that of o.
func (p *shardPages) isOlderThan(o *shardPages) bool {
	return len(p.page) > 0 && (len(o.page) == 0 || p.page[0].acceptedAt < o.page[0].acceptedAt)
}

// nextPage reads the next page, of up to limit entries, when none is in hand.
func (s *RequestStore) nextPage(ctx context.Context, p *shardPages, before time.Time, limit int) error {
	for len(p.page) == 0 && !p.ended {
		out, err := call(ctx, s, opQuery, &dynamodb.QueryInput{
			TableName:                 aws.String(s.cfg.Table),
			IndexName:                 aws.String(pendingIndex),
			KeyConditionExpression:    aws.String(attrPending + " = :shard AND " + attrAcceptedAt + " < :before"),
			ExpressionAttributeValues: attributes{":shard": text(p.key), ":before": instant(before)},
			ExclusiveStartKey:         p.from,
			Limit:                     aws.Int32(int32(limit)),
		}, s.client.Query, s.retry)
		if err != nil {
			return err
		}
		p.page = make([]candidate, len(out.Items))
		for i, item := range out.Items {
			r := &reader{item: item}
			p.page[i] = candidate{r.text(attrID), r.text(attrAcceptedAt)}
		}
		p.from, p.ended = out.LastEvaluatedKey, len(out.LastEvaluatedKey) == 0
	}
	return nil
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
