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

// keyedTries is in how many parts the time of a call is cut, so that one without an answer leaves time for another.
const keyedTries = 3

// free is the condition of the put that takes a key: there is no item, or one that counts as absent (rule S3).
const free = `attribute_not_exists(` + attrID + `) OR ` + attrExpiresAt + ` <= :now`

// OpenKeyed stores a PENDING item for each request whose key is free. A nil result means that every item is durable.
// Otherwise it has one error per request: nil for an item that is durable, trade.ErrKeyTaken when the key has an item that
// is not of this call, trade.ErrNotOpened when the item certainly does not exist, any other when it may.
//
// Each put is a call of its own, because a batch can have no conditions. For the same reason it may be sent again where
// that of Open may not: a late copy finds the item and changes nothing. By its nonce a repeat knows its own item.
func (l *RequestStore) OpenKeyed(ctx context.Context, batch []*trade.KeyedRequest) []error {
	errs := make([]error, len(batch))
	var calls errgroup.Group
	calls.SetLimit(l.cfg.Calls)
	for i, r := range batch {
		calls.Go(func() error {
			errs[i] = l.takeKey(ctx, r)
			return nil
		})
	}
	_ = calls.Wait() // none returns an error
	if !slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		return nil
	}
	return errs
}

// takeKey puts the item of one request, again and again until ctx ends or an answer tells.
func (l *RequestStore) takeKey(ctx context.Context, r *trade.KeyedRequest) error {
	item := pendingItem(r.Request)
	item[attrHash] = &types.AttributeValueMemberB{Value: r.Hash[:]}
	item[attrNonce] = &types.AttributeValueMemberB{Value: r.Nonce[:]}
	unsure := false // a copy that got no answer may have been done, or may still be
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
		err := l.putKeyed(ctx, item)
		var other *types.ConditionalCheckFailedException
		switch resultOf(err) {
		case done:
			return nil
		case unmet:
			if errors.As(err, &other) && trade.Nonce(binary(other.Item, attrNonce, len(r.Nonce))) == r.Nonce {
				return nil // an earlier copy did it
			}
			return fmt.Errorf("request %s: %w", r.ID, trade.ErrKeyTaken)
		case throttled:
			l.metrics.throttled[opPut].Inc()
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

// putKeyed sends the put once.
func (l *RequestStore) putKeyed(ctx context.Context, item attributes) error {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.CallLimit/keyedTries)
	defer cancel()
	_, err := call(ctx, l, opPut, &dynamodb.PutItemInput{
		TableName:                           aws.String(l.cfg.Table),
		Item:                                item,
		ConditionExpression:                 aws.String(free),
		ExpressionAttributeValues:           attributes{":now": number(l.cfg.Now().Unix())},
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}, l.client.PutItem)
	return err
}

// binary returns the bytes of an attribute, n zeros if it does not hold n bytes.
func binary(item attributes, name string, n int) []byte {
	if v, ok := item[name].(*types.AttributeValueMemberB); ok && len(v.Value) == n {
		return v.Value
	}
	return make([]byte, n)
}

// GetKeyed returns where those of the requests given stand that have an item, strongly consistent with every OpenKeyed
// and every Project before the call. An item past its end counts as absent. Any error means that DynamoDB can't answer
// now, or that an item makes no sense.
func (l *RequestStore) GetKeyed(ctx context.Context, ids []trade.RequestID) (map[trade.RequestID]trade.KeyedState, error) {
	states := make(map[trade.RequestID]trade.KeyedState)
	err := l.readAll(ctx, ids, func(item attributes, state trade.RequestState) {
		hash := trade.PayloadHash(binary(item, attrHash, len(trade.PayloadHash{})))
		states[state.ID] = trade.KeyedState{Status: state.Status, Reason: state.Reason, Hash: hash}
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read %d idempotency keys: %w", len(ids), err)
	}
	return states, nil
}
