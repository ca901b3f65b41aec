package dynamo

import (
	"fmt"
	"net/http"
	"os"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"tradestore/internal/checks"
	"tradestore/test/stack"
	"tradestore/trade"
)

// newFixtureWithoutTable returns a request store whose table does not exist.
func newFixtureWithoutTable(t testing.TB) *fixture {
	t.Helper()
	l := &fixture{proxy: newProxy(t, stack.DynamoDB(t))}
	var err error
	table := fmt.Sprintf("missing-%d-%d", os.Getpid(), tables.Add(1))
	l.RequestStore, err = open(t, Config{Table: table, Endpoint: l.proxy.url})
	require.NoError(t, err)
	t.Cleanup(l.Close)
	return l
}

func TestCreateTable(t *testing.T) {
	l := newFixtureWithoutTable(t)
	err := checks.Err(l.Checks(t.Context()))
	require.Equal(t, trade.Broken, trade.ClassOf(err))
	require.ErrorContains(t, err, "expected ACTIVE, seen: none: run tradestore migrate --request-store dynamodb")
	require.Error(t, l.Ping(t.Context()))
	for _, err := range l.Open(t.Context(), newRequests(1)) {
		require.ErrorIs(t, err, trade.ErrNotOpened)
	}

	var makers sync.WaitGroup
	for range 2 {
		makers.Go(func() {
			if err := l.CreateTable(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	makers.Wait()
	require.NoError(t, l.CreateTable(t.Context()), "again")
	require.NoError(t, l.Ping(t.Context()))
	row := func(name, seen string) checks.Check {
		return checks.Check{ID: "T7", Name: name + " of table " + l.cfg.Table, Expected: seen, Seen: seen, Status: checks.OK}
	}
	require.Equal(t, []checks.Check{
		row("status", "ACTIVE"), row("key", "request_id (S)"),
		row("pending-index", "pending (S), accepted_at (S), ACTIVE"), row("expiry", "expires_at ENABLED"),
	}, l.Checks(t.Context()))
}

// A table of the same name that is another one is left alone, and named.
func TestChecksFindAnotherTable(t *testing.T) {
	l := newFixtureWithoutTable(t)
	id := aws.String("id")
	_, err := l.client.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName: aws.String(l.cfg.Table), BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{{AttributeName: id, AttributeType: types.ScalarAttributeTypeN}},
		KeySchema:            []types.KeySchemaElement{{AttributeName: id, KeyType: types.KeyTypeHash}},
	})
	require.NoError(t, err)
	for _, err := range []error{checks.Err(l.Checks(t.Context())), l.CreateTable(t.Context())} {
		require.Equal(t, trade.Broken, trade.ClassOf(err))
		require.ErrorContains(t, err, "expected request_id (S), seen: id (N)")
		require.ErrorContains(t, err, "expected pending (S), accepted_at (S), ACTIVE, seen: none")
	}
}

// A table that is being made is waited for; one that is being deleted is not.
func TestChecksOfATableThatChanges(t *testing.T) {
	l := newFixture(t)
	status := func(table, index string) fault {
		return func(c *passing) {
			c.answer(http.StatusOK, jsonHeader, fmt.Appendf(nil, `{"Table":{
				"TableStatus":%q,
				"AttributeDefinitions":[{"AttributeName":"request_id","AttributeType":"S"},
					{"AttributeName":"pending","AttributeType":"S"},{"AttributeName":"accepted_at","AttributeType":"S"}],
				"KeySchema":[{"AttributeName":"request_id","KeyType":"HASH"}],
				"GlobalSecondaryIndexes":[{"IndexName":"pending-index","IndexStatus":%q,"KeySchema":[
					{"AttributeName":"pending","KeyType":"HASH"},{"AttributeName":"accepted_at","KeyType":"RANGE"}]}]}}`,
				table, index))
		}
	}
	f := func(table, index string, want trade.Class) {
		t.Helper()
		l.proxy.next(opDescribe, status(table, index))
		err := checks.Err(l.Checks(t.Context()))
		require.Error(t, err)
		require.Equal(t, want, trade.ClassOf(err), "%v", err)
	}
	f("CREATING", "CREATING", trade.Unavailable)
	f("ACTIVE", "CREATING", trade.Unavailable)
	f("DELETING", "ACTIVE", trade.Broken)
	f("ACTIVE", "DELETING", trade.Broken)
	l.proxy.next(opDescribe, status("UPDATING", "ACTIVE"))
	require.NoError(t, checks.Err(l.Checks(t.Context())))

	ttl := func(body string) fault {
		return func(c *passing) {
			c.answer(http.StatusOK, jsonHeader, []byte(body))
		}
	}
	const disabled = `{"TimeToLiveDescription":{"TimeToLiveStatus":"DISABLED"}}`
	l.proxy.next(opDescribeTTL, ttl(disabled))
	require.ErrorContains(t, checks.Err(l.Checks(t.Context())), "expected expires_at ENABLED, seen: none")
	other := `{"TimeToLiveDescription":{"TimeToLiveStatus":"ENABLED","AttributeName":"other"}}`
	l.proxy.next(opDescribeTTL, ttl(other))
	require.ErrorContains(t, checks.Err(l.Checks(t.Context())), "seen: other ENABLED")
	enabling := `{"TimeToLiveDescription":{"TimeToLiveStatus":"ENABLING","AttributeName":"expires_at"}}`
	l.proxy.next(opDescribeTTL, ttl(enabling))
	require.NoError(t, checks.Err(l.Checks(t.Context())))

	// CreateTable looks until it is there.
	l.proxy.next(opDescribe, refuse(http.StatusBadRequest, "ResourceNotFoundException"),
		status("CREATING", "CREATING"), status("ACTIVE", "CREATING"))
	require.NoError(t, l.CreateTable(t.Context()))
	l.proxy.next(opDescribeTTL, times(3, ttl(disabled))...)
	l.proxy.next(opUpdateExpiry, refuse(http.StatusBadRequest, "AccessDeniedException"))
	require.ErrorContains(t, l.CreateTable(t.Context()), "cannot switch on expiry")
	l.proxy.next(opCreateTable, refuse(http.StatusBadRequest, "AccessDeniedException"))
	require.ErrorContains(t, l.CreateTable(t.Context()), "cannot make table")
}
