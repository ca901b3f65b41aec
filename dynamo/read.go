package dynamo

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"golang.org/x/sync/errgroup"

	"tradestore/trade"
)

// Get reads a request. It sees every Open and every Project before the call. An expired item counts as absent, because
// the table deletes it hours or days late (rule S3).
// Errors: trade.ErrNotFound; any other means that DynamoDB can't answer now, or that the item is invalid.
func (s *RequestStore) Get(ctx context.Context, id trade.RequestID) (trade.RequestState, error) {
	item, err := s.get(ctx, id)
	if err != nil {
		return trade.RequestState{}, fmt.Errorf("cannot read request %s: %w", id, err)
	}
	if item == nil || expired(item, s.now()) {
		return trade.RequestState{}, fmt.Errorf("request %s: %w", id, trade.ErrNotFound)
	}
	state, err := stateOf(item)
	if err != nil {
		return trade.RequestState{}, fmt.Errorf("cannot read request %s: %w", id, err)
	}
	return state, nil
}

// get returns the item of a request, nil if there is none.
func (s *RequestStore) get(ctx context.Context, id trade.RequestID) (attributes, error) {
	out, err := call(ctx, s, opGet, &dynamodb.GetItemInput{
		TableName:      aws.String(s.cfg.Table),
		Key:            attributes{attrID: text(id.String())},
		ConsistentRead: aws.Bool(true),
	}, s.client.GetItem, s.retry)
	if err != nil {
		return nil, err
	}
	return out.Item, nil
}

// Ended returns the states of those of the given requests that have an outcome. It sees every Project before the call.
// An item that is invalid is logged and left out: it must not hide the others. Any error means that DynamoDB can't
// answer now.
func (s *RequestStore) Ended(ctx context.Context, ids []trade.RequestID) ([]trade.RequestState, error) {
	var ended []trade.RequestState
	err := s.readAll(ctx, ids, func(item attributes, state trade.RequestState, err error) error {
		if err != nil {
			s.log.Error().Err(err).Str("request_id", (&reader{item: item}).optional(attrID)).
				Msg("cannot read a request that clients wait for")
		} else if state.Status.Terminal() {
			ended = append(ended, state)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read %d requests: %w", len(ids), err)
	}
	return ended, nil
}

// readAll reads many requests consistently, with several calls at once, and calls add for each that exists, one at a
// time, with the error of an invalid item. An expired item counts as absent.
func (s *RequestStore) readAll(
	ctx context.Context, ids []trade.RequestID, add func(attributes, trade.RequestState, error) error,
) error {
	distinct := make(map[trade.RequestID]bool, len(ids)) // DynamoDB refuses a call with the same key twice
	for _, id := range ids {
		distinct[id] = true
	}
	var mu sync.Mutex // held while add is called
	calls, ctx := errgroup.WithContext(ctx)
	calls.SetLimit(s.cfg.Calls)
	for part := range slices.Chunk(slices.Collect(maps.Keys(distinct)), getSize) {
		calls.Go(func() error {
			keys := make([]candidate, len(part))
			for i, id := range part {
				keys[i].id = id.String()
			}
			items, err := s.getAll(ctx, keys)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			for _, item := range items {
				if expired(item, s.now()) {
					continue
				}
				state, err := stateOf(item)
				if err := add(item, state, err); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return calls.Wait()
}

// Ping returns nil if the table answers reads now. It reads an item that no request can have.
func (s *RequestStore) Ping(ctx context.Context) error {
	if _, err := s.get(ctx, trade.RequestID{}); err != nil {
		return fmt.Errorf("cannot read table %s: %w", s.cfg.Table, err)
	}
	return nil
}
