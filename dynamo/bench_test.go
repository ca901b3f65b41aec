package dynamo

import (
	"context"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

// directFixture has no proxy, which would be measured as well.
func directFixture(b *testing.B) *fixture {
	b.Helper()
	l := newFixture(b)
	l.client = dynamodb.New(l.client.Options(), func(o *dynamodb.Options) { o.BaseEndpoint = aws.String(l.proxy.target) })
	return l
}

// perItem reports what one item costs: items per second, and processor time of this process alone.
func perItem(b *testing.B, items int, work func()) {
	b.Helper()
	before := processorTime(b)
	b.ResetTimer()
	work()
	b.StopTimer()
	n := float64(items)
	b.ReportMetric(n/b.Elapsed().Seconds(), "items/s")
	b.ReportMetric(float64((processorTime(b)-before).Microseconds())/n, "cpu-us/item")
	b.ReportMetric(0, "ns/op")
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func BenchmarkOpen(b *testing.B) {
	l := directFixture(b)
	for _, size := range []int{1, 25, 512} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			batches := make([][]*trade.Request, b.N)
			for i := range batches {
				batches[i] = newRequests(size)
			}
			perItem(b, b.N*size, func() {
				for _, batch := range batches {
					require.Nil(b, l.Open(context.Background(), batch))
				}
			})
		})
	}
}

// BenchmarkProject compares what the product does with one conditional UpdateItem per outcome, 16 at once.
func BenchmarkProject(b *testing.B) {
	const size = 500
	l := directFixture(b)
	f := func(name string, project func([]trade.Decision)) {
		b.Run(name, func(b *testing.B) {
			batches := make([][]trade.Decision, b.N)
			for i := range batches {
				batch := newRequests(size)
				require.Nil(b, l.Open(context.Background(), batch))
				batches[i] = succeeded(batch)
			}
			perItem(b, b.N*size, func() {
				for _, outcomes := range batches {
					project(outcomes)
				}
			})
		})
	}
	f("25 statements a call", func(o []trade.Decision) { require.NoError(b, l.Project(context.Background(), o)) })
	f("one update a call", func(o []trade.Decision) { updateEach(b, l, o) })
}

func updateEach(b *testing.B, l *fixture, outcomes []trade.Decision) {
	b.Helper()
	var calls sync.WaitGroup
	free := make(chan struct{}, defaultCalls)
	for i := range outcomes {
		o := &outcomes[i]
		free <- struct{}{}
		calls.Go(func() {
			defer func() { <-free }()
			const update = "SET #s = :status, decided_at = :decided, expires_at = :expires REMOVE pending"
			_, err := l.client.UpdateItem(context.Background(), &dynamodb.UpdateItemInput{
				TableName:                aws.String(l.cfg.Table),
				Key:                      attributes{attrID: text(o.ID.String())},
				ConditionExpression:      aws.String("attribute_exists(request_id) AND #s = :pending"),
				UpdateExpression:         aws.String(update),
				ExpressionAttributeNames: map[string]string{"#s": attrStatus},
				ExpressionAttributeValues: attributes{":pending": text(string(trade.Pending)), ":status": text(string(o.Status)),
					":decided": instant(o.DecidedAt), ":expires": number(o.DecidedAt.Add(l.cfg.Life).Unix())},
				ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
			})
			if err != nil {
				b.Error(err)
			}
		})
	}
	calls.Wait()
}
