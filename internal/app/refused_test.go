package app

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"
)

const largestItem = 400 << 10 // bytes that DynamoDB takes

// items changes the items of a table past the request store, as anyone with rights in the account can.
type items struct {
	t      *testing.T
	client *dynamodb.Client
	table  string
}

func (s *dynamoStack) items(t *testing.T) items {
	t.Helper()
	cfg, err := config.LoadDefaultConfig(t.Context(), config.WithRegion("us-east-1"))
	require.NoError(t, err)
	client := dynamodb.NewFromConfig(cfg, func(o *dynamodb.Options) { o.BaseEndpoint = aws.String(s.dynamoAddr) })
	return items{t, client, s.requests.Table}
}

func (i items) update(id, expression string, values map[string]types.AttributeValue) error {
	_, err := i.client.UpdateItem(i.t.Context(), &dynamodb.UpdateItemInput{
		TableName: aws.String(i.table), UpdateExpression: aws.String(expression), ExpressionAttributeValues: values,
		Key: map[string]types.AttributeValue{"request_id": &types.AttributeValueMemberS{Value: id}},
	})
	return err
}

// fill makes an item as large as DynamoDB takes it: it refuses whatever would make it larger.
func (i items) fill(id string) {
	i.t.Helper()
	full := sort.Search(largestItem, func(spare int) bool {
		text := &types.AttributeValueMemberS{Value: strings.Repeat("x", largestItem-spare)}
		return i.update(id, "SET filler = :f", map[string]types.AttributeValue{":f": text}) == nil
	})
	require.Less(i.t, full, largestItem)
}

// An outcome that DynamoDB refuses for good holds up no other one, of its partition or of others. Its request stays
// PENDING, which counts, until the item is repaired: then the orphan reaper shows the outcome.
func TestARefusedOutcomeHoldsUpNoOther(t *testing.T) {
	s := newDynamoStack(t)
	require.NoError(t, s.migrate(t))
	server := s.server(t)
	server.awaitReady(t)
	var ids []string
	for i := range 12 {
		ids = append(ids, server.post(t, fmt.Sprintf("T%d", i), "1"))
	}
	table := s.items(t)
	table.fill(ids[0])

	s.allow(t, quickPromise)
	cfg := s.workerConfig(t)
	cfg.RequestStore, cfg.Promise, cfg.Worker.OrphanInterval = s.requests, quickPromise, 50*time.Millisecond
	worker := start(t, func(ctx context.Context, env Env) error { return RunWorker(ctx, cfg, env) })
	for _, id := range ids[1:] {
		server.ends(t, id, "SUCCESS", nil)
	}
	for i := range 3 { // of its partition, and later in the log
		server.ends(t, server.post(t, "T0", fmt.Sprint(i+2)), "SUCCESS", nil)
	}
	_, answer := server.get(t, "/api/v1/requests/"+ids[0])
	require.Equal(t, "PENDING", answer["status"])
	shows := func(line string) {
		t.Helper()
		worker.await(t, line, func() bool {
			_, answer := worker.get(t, "/metrics")
			return strings.Contains(answer["text"].(string), line+"\n")
		})
	}
	shows("tradestore_projection_refused_total 1")
	shows("tradestore_orphan_unshown_requests 1")
	shows("tradestore_projection_lag_seconds 0")

	require.NoError(t, table.update(ids[0], "REMOVE filler", nil))
	server.ends(t, ids[0], "SUCCESS", nil)
	shows("tradestore_orphan_unshown_requests 0")
}
