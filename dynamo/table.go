package dynamo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"tradestore/internal/checks"
	"tradestore/trade"
)

// What a table has to be (rule T7), in the words of describeKey and of DynamoDB.
const (
	active   = "ACTIVE"
	tableKey = attrID + " (S)"
	indexKey = attrPending + " (S), " + attrAcceptedAt + " (S), " + active
	expiryOn = attrExpiresAt + " ENABLED"

	notThere = "none"
	noTable  = "none: run tradestore migrate --request-store dynamodb"
)

const watchInterval = 200 * time.Millisecond // between two looks at a table that is being made

// CreateTable makes the table, billed by request, its index and its expiry, and returns when they work. What is there
// already stays as it is: if it is not what is expected, the error is that of checks.Err. It may be repeated and run
// twice at once; a crash in between leaves a part of the work, and the next run does the rest.
func (l *RequestStore) CreateTable(ctx context.Context) error {
	s := func(name string) types.AttributeDefinition {
		return types.AttributeDefinition{AttributeName: aws.String(name), AttributeType: types.ScalarAttributeTypeS}
	}
	k := func(name string, kind types.KeyType) types.KeySchemaElement {
		return types.KeySchemaElement{AttributeName: aws.String(name), KeyType: kind}
	}
	_, err := call(ctx, l, opCreateTable, &dynamodb.CreateTableInput{
		TableName:            aws.String(l.cfg.Table),
		BillingMode:          types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{s(attrID), s(attrPending), s(attrAcceptedAt)},
		KeySchema:            []types.KeySchemaElement{k(attrID, types.KeyTypeHash)},
		GlobalSecondaryIndexes: []types.GlobalSecondaryIndex{{
			IndexName:  aws.String(pendingIndex),
			KeySchema:  []types.KeySchemaElement{k(attrPending, types.KeyTypeHash), k(attrAcceptedAt, types.KeyTypeRange)},
			Projection: &types.Projection{ProjectionType: types.ProjectionTypeKeysOnly},
		}},
	}, l.client.CreateTable, l.again)
	var exists *types.ResourceInUseException
	switch {
	case err == nil || errors.As(err, &exists):
	case resultOf(err) == refused:
		return trade.Classed(trade.Broken, "cannot make table %s: %w", l.cfg.Table, err)
	default:
		return fmt.Errorf("cannot make table %s: %w", l.cfg.Table, err)
	}
	if err := l.awaitActive(ctx); err != nil {
		return err
	}
	if err := l.expire(ctx); err != nil {
		return err
	}
	return checks.Err(l.Checks(ctx))
}

// awaitActive waits until the table and its index have been made, or can't be what is expected any more. For a moment
// after it was asked for, a table may not even be there.
func (l *RequestStore) awaitActive(ctx context.Context) error {
	for {
		list := l.Checks(ctx)
		if !slices.ContainsFunc(list, func(c checks.Check) bool { return c.Status == checks.Unknown || c.Seen == noTable }) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("table %s is not there yet: %w", l.cfg.Table, checks.Err(list))
		case <-time.After(watchInterval):
		}
	}
}

// expire switches expiry on, if it is not; DynamoDB refuses to do so twice.
func (l *RequestStore) expire(ctx context.Context) error {
	seen, err := l.expiry(ctx)
	if err != nil || seen == expiryOn {
		return err
	}
	_, err = call(ctx, l, opUpdateExpiry, &dynamodb.UpdateTimeToLiveInput{
		TableName:               aws.String(l.cfg.Table),
		TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: aws.String(attrExpiresAt), Enabled: aws.Bool(true)},
	}, l.client.UpdateTimeToLive)
	if err == nil {
		return nil
	}
	if seen, _ := l.expiry(ctx); seen == expiryOn { // another run was faster
		return nil
	}
	return fmt.Errorf("cannot switch on expiry of table %s: %w", l.cfg.Table, err)
}

// Checks compares the table with what this build relies on (rule T7) and changes nothing. The list has the same rows each
// time. What is being made is Unknown: nothing is wrong with it, but nobody can rely on it yet.
func (l *RequestStore) Checks(ctx context.Context) []checks.Check {
	table, err := l.describe(ctx)
	status, key, index, expiry := noTable, notThere, notThere, notThere
	if table != nil {
		status, key = string(table.TableStatus), describeKey(table, table.KeySchema)
		index = describeIndex(table)
		expiry, err = l.expiry(ctx)
	}
	row := func(name, expected, seen string) checks.Check {
		name += " of table " + l.cfg.Table
		switch {
		case err != nil:
			return checks.CanNotTell("T7", name, expected, err)
		case strings.HasSuffix(seen, string(types.TableStatusCreating)): // an index says the same
			return checks.CanNotTell("T7", name, expected, fmt.Errorf("%s is being made", name))
		}
		return checks.Compare("T7", name, expected, seen, seen == expected)
	}
	return []checks.Check{row("status", active, status), row("key", tableKey, key), row(pendingIndex, indexKey, index), row("expiry", expiryOn, expiry)}
}

// describe returns what DynamoDB says of the table, nil if there is none. One that is being changed serves as before.
func (l *RequestStore) describe(ctx context.Context) (*types.TableDescription, error) {
	out, err := call(ctx, l, opDescribe, &dynamodb.DescribeTableInput{TableName: aws.String(l.cfg.Table)}, l.client.DescribeTable, l.again)
	var absent *types.ResourceNotFoundException
	switch {
	case errors.As(err, &absent):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("cannot inspect table %s: %w", l.cfg.Table, err)
	case out.Table.TableStatus == types.TableStatusUpdating:
		out.Table.TableStatus = types.TableStatusActive
	}
	return out.Table, nil
}

// describeIndex writes key and status of the index of PENDING items.
func describeIndex(table *types.TableDescription) string {
	for _, i := range table.GlobalSecondaryIndexes {
		if aws.ToString(i.IndexName) == pendingIndex {
			return describeKey(table, i.KeySchema) + ", " + string(i.IndexStatus)
		}
	}
	return notThere
}

// expiry returns which attribute makes items expire, and whether it does.
func (l *RequestStore) expiry(ctx context.Context) (string, error) {
	out, err := call(ctx, l, opDescribeTTL, &dynamodb.DescribeTimeToLiveInput{TableName: aws.String(l.cfg.Table)}, l.client.DescribeTimeToLive, l.again)
	if err != nil {
		return "", fmt.Errorf("cannot inspect the expiry of table %s: %w", l.cfg.Table, err)
	}
	d := out.TimeToLiveDescription
	if d == nil || d.AttributeName == nil {
		return notThere, nil
	}
	status := d.TimeToLiveStatus
	if status == types.TimeToLiveStatusEnabling { // items expire late anyway
		status = types.TimeToLiveStatusEnabled
	}
	return *d.AttributeName + " " + string(status), nil
}

// describeKey writes a key like "pending (S), accepted_at (S)", the hash key first.
func describeKey(table *types.TableDescription, schema []types.KeySchemaElement) string {
	var parts []string
	for _, element := range schema {
		kind := types.ScalarAttributeType("?")
		for _, d := range table.AttributeDefinitions {
			if aws.ToString(d.AttributeName) == aws.ToString(element.AttributeName) {
				kind = d.AttributeType
			}
		}
		parts = append(parts, fmt.Sprintf("%s (%s)", aws.ToString(element.AttributeName), kind))
	}
	return strings.Join(parts, ", ")
}
