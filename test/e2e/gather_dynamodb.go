package e2e

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"tradestore/trade"
)

// readItems reads the ids of a request store on DynamoDB Local, which takes any credentials.
func (ev *Evidence) readItems(ctx context.Context, endpoint, table string) error {
	client := dynamodb.New(dynamodb.Options{
		Region: "local", BaseEndpoint: aws.String(endpoint),
		Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""),
	})
	pages := dynamodb.NewScanPaginator(client, &dynamodb.ScanInput{
		TableName: aws.String(table), ConsistentRead: aws.Bool(true), ProjectionExpression: aws.String("request_id"),
	})
	ev.Opened = map[trade.RequestID]bool{}
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("cannot read table %s: %w", table, err)
		}
		for _, item := range page.Items {
			text, ok := item["request_id"].(*types.AttributeValueMemberS)
			if !ok {
				return fmt.Errorf("cannot read table %s: an item has no request_id", table)
			}
			id, err := trade.ParseRequestID(text.Value)
			if err != nil {
				return fmt.Errorf("cannot read table %s: %w", table, err)
			}
			ev.Opened[id] = true
		}
	}
	return nil
}
