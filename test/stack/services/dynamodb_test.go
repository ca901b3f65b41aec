package services

import (
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func dynamoClient(endpoint string) *dynamodb.Client {
	return dynamodb.New(dynamodb.Options{
		BaseEndpoint: &endpoint, Region: "local", Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""),
	})
}

func TestDynamoDBKeepsItsTablesOverAKill(t *testing.T) {
	needJava(t)
	dir := filepath.Join(t.TempDir(), "dynamodb")
	d, err := StartDynamoDB(within(t), DynamoDBConfig{Dir: dir})
	require.NoError(t, err)
	t.Cleanup(func() { d.Kill() })
	client := dynamoClient(d.Endpoint())
	_, err = client.CreateTable(within(t), &dynamodb.CreateTableInput{
		TableName:   aws.String("kept"),
		BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("id"),
			AttributeType: types.ScalarAttributeTypeS}},
		KeySchema: []types.KeySchemaElement{{AttributeName: aws.String("id"), KeyType: types.KeyTypeHash}},
	})
	require.NoError(t, err)
	item := map[string]types.AttributeValue{"id": &types.AttributeValueMemberS{Value: "one"}}
	_, err = client.PutItem(within(t), &dynamodb.PutItemInput{TableName: aws.String("kept"), Item: item})
	require.NoError(t, err)
	assert.False(t, listens("127.0.0.2", d.Port()), "it listens on other addresses")

	pid, port := d.PID(), d.Port()
	d.Kill()
	assert.False(t, alive(pid))
	require.NoError(t, d.Restart(within(t)))
	got, err := client.GetItem(within(t),
		&dynamodb.GetItemInput{TableName: aws.String("kept"), Key: item, ConsistentRead: aws.Bool(true)})
	require.NoError(t, err)
	assert.Equal(t, item, got.Item)
	pid = d.PID()
	d.Stop()
	assert.False(t, alive(pid))

	d, err = StartDynamoDB(within(t), DynamoDBConfig{Dir: dir, InMemory: true, HeapMiB: 128})
	require.NoError(t, err)
	assert.Equal(t, port, d.Port())
	tables, err := dynamoClient(d.Endpoint()).ListTables(within(t), &dynamodb.ListTablesInput{})
	require.NoError(t, err)
	assert.Empty(t, tables.TableNames, "in memory and yet there")
}
