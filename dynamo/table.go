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

// What a table must be (rule T7), in the words of describeKey and of DynamoDB.
const (
	active   = "ACTIVE"
	tableKey = attrID + " (S)"
	indexKey = attrPending + " (S), " + attrAcceptedAt + " (S), " + active
	expiryOn = attrExpiresAt + " ENABLED"

	notThere = "none"
	noTable  = "none: run tradestore migrate --request-store dynamodb"
)

const pollInterval = 200 * time.Millisecond // between two checks of a table that is being created

// CreateTable creates the table, billed by request, with its index and its expiry, and returns when they work. An
// existing table is left as it is; if it is not the expected one, the error is that of checks.Err. CreateTable may be
// repeated and may run twice at once. After a crash a part of the work is done, and the next run does the rest.
func (s *RequestStore) CreateTable(ctx context.Context) error {
	attribute := func(name string) types.AttributeDefinition {
		return types.AttributeDefinition{AttributeName: aws.String(name), AttributeType: types.ScalarAttributeTypeS}
	}
	key := func(name string, kind types.KeyType) types.KeySchemaElement {
		return types.KeySchemaElement{AttributeName: aws.String(name), KeyType: kind}
	}
	_, err := call(ctx, s, opCreateTable, &dynamodb.CreateTableInput{
		TableName:   aws.String(s.cfg.Table),
		BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{
			attribute(attrID), attribute(attrPending), attribute(attrAcceptedAt),
		},
		KeySchema: []types.KeySchemaElement{key(attrID, types.KeyTypeHash)},
		GlobalSecondaryIndexes: []types.GlobalSecondaryIndex{{
			IndexName: aws.String(pendingIndex),
			KeySchema: []types.KeySchemaElement{
				key(attrPending, types.KeyTypeHash), key(attrAcceptedAt, types.KeyTypeRange),
			},
			Projection: &types.Projection{ProjectionType: types.ProjectionTypeKeysOnly},
		}},
	}, s.client.CreateTable, s.retry)
	var exists *types.ResourceInUseException
	switch {
	case err == nil || errors.As(err, &exists):
	case resultOf(err) == refused:
		return trade.Classed(trade.Broken, "cannot make table %s: %w", s.cfg.Table, err)
	default:
		return fmt.Errorf("cannot make table %s: %w", s.cfg.Table, err)
	}
	if err := s.awaitActive(ctx); err != nil {
		return err
	}
	if err := s.enableExpiry(ctx); err != nil {
		return err
	}
	return checks.Err(s.Checks(ctx))
}

// awaitActive waits until the table and its index are active, or are not what is expected. A table that was just
// created may not exist for a moment.
func (s *RequestStore) awaitActive(ctx context.Context) error {
	for {
		list := s.Checks(ctx)
		if !slices.ContainsFunc(list, func(c checks.Check) bool { return c.Status == checks.Unknown || c.Seen == noTable }) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("table %s is not there yet: %w", s.cfg.Table, checks.Err(list))
		case <-time.After(pollInterval):
		}
	}
}

// enableExpiry enables expiry if it is off; DynamoDB refuses to enable it twice.
func (s *RequestStore) enableExpiry(ctx context.Context) error {
	seen, err := s.expiry(ctx)
	if err != nil || seen == expiryOn {
		return err
	}
	on := &types.TimeToLiveSpecification{AttributeName: aws.String(attrExpiresAt), Enabled: aws.Bool(true)}
	_, err = call(ctx, s, opUpdateExpiry, &dynamodb.UpdateTimeToLiveInput{
		TableName: aws.String(s.cfg.Table), TimeToLiveSpecification: on,
	}, s.client.UpdateTimeToLive)
	if err == nil {
		return nil
	}
	if seen, _ := s.expiry(ctx); seen == expiryOn { // another run was faster
		return nil
	}
	return fmt.Errorf("cannot switch on expiry of table %s: %w", s.cfg.Table, err)
}

// Checks compares the table with what it must be (rule T7). The list always has the same rows. A table that is being
// created is Unknown: nothing is wrong with it, but it can't be used yet.
func (s *RequestStore) Checks(ctx context.Context) []checks.Check {
	table, err := s.describe(ctx)
	status, key, index, expiry := noTable, notThere, notThere, notThere
	if table != nil {
		status, key = string(table.TableStatus), describeKey(table, table.KeySchema)
		index = describeIndex(table)
		expiry, err = s.expiry(ctx)
	}
	row := func(name, expected, seen string) checks.Check {
		name += " of table " + s.cfg.Table
		switch {
		case err != nil:
			return checks.CanNotTell("T7", name, expected, err)
		case strings.HasSuffix(seen, string(types.TableStatusCreating)): // an index says the same
			return checks.CanNotTell("T7", name, expected, fmt.Errorf("%s is being made", name))
		}
		return checks.Compare("T7", name, expected, seen, seen == expected)
	}
	return []checks.Check{
		row("status", active, status), row("key", tableKey, key),
		row(pendingIndex, indexKey, index), row("expiry", expiryOn, expiry),
	}
}

// describe returns the description of the table, nil if there is none. A table that is being updated counts as active.
func (s *RequestStore) describe(ctx context.Context) (*types.TableDescription, error) {
	in := &dynamodb.DescribeTableInput{TableName: aws.String(s.cfg.Table)}
	out, err := call(ctx, s, opDescribe, in, s.client.DescribeTable, s.retry)
	var absent *types.ResourceNotFoundException
	switch {
	case errors.As(err, &absent):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("cannot inspect table %s: %w", s.cfg.Table, err)
	case out.Table.TableStatus == types.TableStatusUpdating:
		out.Table.TableStatus = types.TableStatusActive
	}
	return out.Table, nil
}

// describeIndex returns key and status of the index of PENDING items, as text.
func describeIndex(table *types.TableDescription) string {
	for _, i := range table.GlobalSecondaryIndexes {
		if aws.ToString(i.IndexName) == pendingIndex {
			return describeKey(table, i.KeySchema) + ", " + string(i.IndexStatus)
		}
	}
	return notThere
}

// expiry returns the attribute by which items expire, and its status.
func (s *RequestStore) expiry(ctx context.Context) (string, error) {
	in := &dynamodb.DescribeTimeToLiveInput{TableName: aws.String(s.cfg.Table)}
	out, err := call(ctx, s, opDescribeTTL, in, s.client.DescribeTimeToLive, s.retry)
	if err != nil {
		return "", fmt.Errorf("cannot inspect the expiry of table %s: %w", s.cfg.Table, err)
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

// describeKey returns a key as text, like "pending (S), accepted_at (S)", the hash key first.
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
