package dynamo

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"tradestore/trade"
)

// Get reads a request, strongly consistent with every Open and every Settle before the call. An item past its end counts
// as absent, because the table deletes it hours or days late (rule S3).
// Errors: trade.ErrNotFound; any other means that DynamoDB can't answer now, or that the item makes no sense.
func (l *RequestLog) Get(ctx context.Context, id trade.RequestID) (trade.RequestState, error) {
	item, err := l.get(ctx, id)
	if err != nil {
		return trade.RequestState{}, fmt.Errorf("cannot read request %s: %w", id, err)
	}
	if item == nil || expired(item, l.cfg.Now()) {
		return trade.RequestState{}, fmt.Errorf("request %s: %w", id, trade.ErrNotFound)
	}
	state, err := stateOf(item)
	if err != nil {
		return trade.RequestState{}, fmt.Errorf("cannot read request %s: %w", id, err)
	}
	return state, nil
}

// get returns the item of a request, nil if there is none.
func (l *RequestLog) get(ctx context.Context, id trade.RequestID) (attributes, error) {
	out, err := call(ctx, l, opGet, &dynamodb.GetItemInput{
		TableName:      aws.String(l.cfg.Table),
		Key:            attributes{attrID: text(id.String())},
		ConsistentRead: aws.Bool(true),
	}, l.client.GetItem, l.again)
	if err != nil {
		return nil, err
	}
	return out.Item, nil
}

// Ping says whether the table answers reads now. It asks for an item that no request can have.
func (l *RequestLog) Ping(ctx context.Context) error {
	if _, err := l.get(ctx, trade.RequestID{}); err != nil {
		return fmt.Errorf("cannot read table %s: %w", l.cfg.Table, err)
	}
	return nil
}
