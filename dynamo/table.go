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

	"tradestore/trade"
)

// Finding is one thing that must hold of the table (rule T7), and what was seen.
type Finding struct {
	What     string // status, key, index or expiry
	Expected string
	Seen     string
	Waiting  bool // it is on its way to what is expected: nothing is wrong, it just can't be relied on yet
}

// OK says whether the table is as expected.
func (f Finding) OK() bool { return f.Expected == f.Seen }

// What a table has to be, in the words of describeKey and of DynamoDB.
const (
	active      = "ACTIVE"
	tableKey    = attrID + " (S)"
	indexKey    = attrPending + " (S), " + attrAcceptedAt + " (S), " + active
	expiryOn    = attrExpiresAt + " ENABLED"
	notThere    = "none"
	activeWatch = 200 * time.Millisecond // between two looks at a table that is being made
)

// CreateTable makes the table, billed by request, its index and its expiry, and returns when they work. What is there
// already stays as it is: if it is not what is expected, the error is that of CheckTable. It may be repeated and run
// twice at once; a crash in between leaves a part of the work, and the next run does the rest.
func (l *RequestLog) CreateTable(ctx context.Context) error {
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
	return l.CheckTable(ctx)
}

// awaitActive waits until the table and its index have been made, or can't be what is expected any more.
func (l *RequestLog) awaitActive(ctx context.Context) error {
	for {
		findings, err := l.Inspect(ctx)
		if err != nil {
			return err
		}
		// For a moment after it was asked for, a table may not even be there.
		if !slices.ContainsFunc(findings, func(f Finding) bool { return f.Waiting || f.What == "status" && f.Seen == notThere }) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("table %s is still being made: %w", l.cfg.Table, ctx.Err())
		case <-time.After(activeWatch):
		}
	}
}

// expire switches expiry on, if it is not; DynamoDB refuses to do so twice.
func (l *RequestLog) expire(ctx context.Context) error {
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

// CheckTable compares the table with what this build relies on (rule T7) and changes nothing. Errors of class
// trade.Broken: the table is another, waiting does not help; any other: it can't be told now, or it is being made.
func (l *RequestLog) CheckTable(ctx context.Context) error {
	findings, err := l.Inspect(ctx)
	if err != nil {
		return err
	}
	class, wrong := trade.Unavailable, []string(nil)
	for _, f := range findings {
		if f.OK() {
			continue
		}
		wrong = append(wrong, fmt.Sprintf("%s: expected %s, seen %s", f.What, f.Expected, f.Seen))
		if !f.Waiting {
			class = trade.Broken
		}
	}
	if wrong == nil {
		return nil
	}
	return trade.Classed(class, "DynamoDB table %s is not as expected: %s; 'tradestore migrate --request-log dynamodb' makes a missing one",
		l.cfg.Table, strings.Join(wrong, "; "))
}

// Inspect returns what CheckTable judges: one finding each for status, key, index and expiry, or the status alone if there
// is no table. Errors: DynamoDB can't tell now.
func (l *RequestLog) Inspect(ctx context.Context) ([]Finding, error) {
	out, err := call(ctx, l, opDescribe, &dynamodb.DescribeTableInput{TableName: aws.String(l.cfg.Table)}, l.client.DescribeTable, l.again)
	var absent *types.ResourceNotFoundException
	if errors.As(err, &absent) {
		return []Finding{{What: "status", Expected: active, Seen: notThere}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot inspect table %s: %w", l.cfg.Table, err)
	}
	table := out.Table
	findings := []Finding{
		{What: "status", Expected: active, Seen: string(table.TableStatus), Waiting: table.TableStatus == types.TableStatusCreating},
		{What: "key", Expected: tableKey, Seen: describeKey(table, table.KeySchema)},
	}
	if table.TableStatus == types.TableStatusUpdating { // it serves as before
		findings[0].Seen = active
	}
	index := Finding{What: "index " + pendingIndex, Expected: indexKey, Seen: notThere}
	for _, i := range table.GlobalSecondaryIndexes {
		if aws.ToString(i.IndexName) == pendingIndex {
			index.Seen = describeKey(table, i.KeySchema) + ", " + string(i.IndexStatus)
			index.Waiting = i.IndexStatus == types.IndexStatusCreating
		}
	}
	expiry, err := l.expiry(ctx)
	if err != nil {
		return nil, err
	}
	return append(findings, index, Finding{What: "expiry", Expected: expiryOn, Seen: expiry}), nil
}

// expiry returns which attribute makes items expire, and whether it does.
func (l *RequestLog) expiry(ctx context.Context) (string, error) {
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
