package dynamo

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"golang.org/x/sync/errgroup"

	"tradestore/trade"
)

// keyedTries divides the time limit of a call, so that a try without an answer leaves time for another one.
const keyedTries = 3

// keyIsFree is the condition of the put that takes a key: there is no item, or an expired one (rule S3).
const keyIsFree = `attribute_not_exists(` + attrID + `) OR ` + attrExpiresAt + ` <= :now`

// OpenKeyed stores a PENDING item for each request whose key is free. A nil result means that every item is durable.
// Otherwise it has one error per request: nil for an item that is durable, trade.ErrKeyTaken if another call has taken
// the key, trade.ErrNotOpened if the item certainly does not exist, any other error if it may exist.
//
// Each put is a call of its own, because a batch can't have conditions. Unlike a put of Open it may be sent again: a
// late copy finds the item and changes nothing (rule K1). The nonce tells a repeat which item is its own.
func (s *RequestStore) OpenKeyed(ctx context.Context, batch []*trade.KeyedRequest) []error {
	errs := make([]error, len(batch))
	var calls errgroup.Group
	calls.SetLimit(s.cfg.Calls)
	for i, r := range batch {
		calls.Go(func() error {
			errs[i] = s.openKeyed(ctx, r)
			return nil
		})
	}
	_ = calls.Wait() // none returns an error
	if !slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		return nil
	}
	return errs
}

// openKeyed puts the item of one request, until there is a definite answer or ctx ends.
func (s *RequestStore) openKeyed(ctx context.Context, r *trade.KeyedRequest) error {
	item := pendingItem(r.Request)
	item[attrHash] = &types.AttributeValueMemberB{Value: r.Hash[:]}
	item[attrNonce] = &types.AttributeValueMemberB{Value: r.Nonce[:]}
	unsure := false // a copy without an answer may have taken effect, or may do so later
	giveUp := func(err error) error {
		if unsure {
			return fmt.Errorf("no answer to opening request %s: %w", r.ID, err)
		}
		return fmt.Errorf("cannot open request %s: %w: %w", r.ID, trade.ErrNotOpened, err)
	}
	for try := 0; ; try++ {
		if ctx.Err() != nil {
			return giveUp(context.Cause(ctx))
		}
		err := s.putKeyed(ctx, item)
		var other *types.ConditionalCheckFailedException
		switch resultOf(err) {
		case done:
			return nil
		case unmet:
			if errors.As(err, &other) && trade.Nonce(binary(other.Item, attrNonce, len(r.Nonce))) == r.Nonce {
				return nil // an earlier copy stored it
			}
			return fmt.Errorf("request %s: %w", r.ID, trade.ErrKeyTaken)
		case throttled:
			s.metrics.throttled[opPut].Inc()
		case refused, unsent:
			return giveUp(err)
		default:
			unsure = true
		}
		if !pause(ctx, try) {
			return giveUp(err)
		}
	}
}

// putKeyed makes one put.
func (s *RequestStore) putKeyed(ctx context.Context, item attributes) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CallLimit/keyedTries)
	defer cancel()
	_, err := call(ctx, s, opPut, &dynamodb.PutItemInput{
		TableName:                           aws.String(s.cfg.Table),
		Item:                                item,
		ConditionExpression:                 aws.String(keyIsFree),
		ExpressionAttributeValues:           attributes{":now": number(s.now().Unix())},
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}, s.client.PutItem)
	return err
}

// binary returns the bytes of an attribute, n zeros if it does not hold n bytes.
func binary(item attributes, name string, n int) []byte {
	if v, ok := item[name].(*types.AttributeValueMemberB); ok && len(v.Value) == n {
		return v.Value
	}
	return make([]byte, n)
}

// GetKeyed returns the states of those of the given requests that have an item. It sees every OpenKeyed and every
// Project before the call. An expired item counts as absent. Any error means that DynamoDB can't answer now, or that an
// item is invalid.
func (s *RequestStore) GetKeyed(
	ctx context.Context, ids []trade.RequestID,
) (map[trade.RequestID]trade.KeyedState, error) {
	states := make(map[trade.RequestID]trade.KeyedState)
	err := s.readAll(ctx, ids, func(item attributes, state trade.RequestState, err error) error {
		if err != nil {
			return err
		}
		hash := trade.PayloadHash(binary(item, attrHash, len(trade.PayloadHash{})))
		states[state.ID] = trade.KeyedState{Status: state.Status, Reason: state.Reason, Hash: hash}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read %d idempotency keys: %w", len(ids), err)
	}
	return states, nil
}
