package kafka

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/internal/checks"
	"tradestore/test/stack"
	"tradestore/trade"
)

func TestMain(m *testing.M) { stack.Main(m) }

// apache returns the settings of a client of Apache Kafka, with a topic that no other test uses.
func apache(t *testing.T, id string) Config {
	t.Helper()
	topic, group := "trades-"+t.Name(), "workers-"+t.Name()
	return Config{Brokers: stack.SharedApacheKafka(t), Topic: topic, ClientID: id, Group: group}
}

func TestApacheTopicIsThereWhenItWasCreated(t *testing.T) {
	t.Parallel()
	cfg, ctx := apache(t, "migrate"), limit(t, time.Minute)
	p := producer(t, cfg, prometheus.NewRegistry())
	spec := TopicSpec{Partitions: 6, Replication: 1, MinISR: 1, Retention: 72 * time.Hour}
	_, err := CheckTopic(ctx, p, cfg.Topic, 6)
	require.ErrorIs(t, err, checks.ErrWrong)
	for i := range 10 { // a broker learns of a new topic a moment after the controller
		c := cfg
		c.Topic = fmt.Sprintf("%s-%d", cfg.Topic, i)
		_, err := CreateTopic(ctx, c, spec)
		require.NoError(t, err)
	}

	first, err := CreateTopic(ctx, cfg, spec)
	require.NoError(t, err)
	require.NotZero(t, first)
	again, err := CreateTopic(ctx, cfg, spec)
	require.NoError(t, err)
	assert.Equal(t, first, again)
	spec.Partitions = 7
	_, err = CreateTopic(ctx, cfg, spec)
	require.ErrorIs(t, err, checks.ErrWrong)
	require.ErrorContains(t, err, "expected with 7 partitions, seen: 6")

	admin := kadm.NewClient(p)
	configs, err := admin.DescribeTopicConfigs(ctx, cfg.Topic)
	require.NoError(t, err)
	seen := make(map[string]string)
	for _, c := range configs[0].Configs {
		seen[c.Key] = c.MaybeValue()
	}
	assert.Equal(t, "delete", seen["cleanup.policy"])
	assert.Equal(t, "259200000", seen["retention.ms"])
	assert.Equal(t, "1048576", seen["max.message.bytes"])
	assert.Equal(t, "1", seen["min.insync.replicas"])

	cfg.Topic += "-of-three"
	spec.Replication = 3
	_, err = CreateTopic(ctx, cfg, spec)
	require.ErrorContains(t, err, "cannot create topic "+cfg.Topic)
	require.NotErrorIs(t, err, checks.ErrWrong)
}

func TestApacheTopicMadeAgainIsAnotherOne(t *testing.T) {
	t.Parallel()
	cfg, ctx := apache(t, "migrate"), limit(t, time.Minute)
	p := producer(t, cfg, prometheus.NewRegistry())
	first, err := CreateTopic(ctx, cfg, TopicSpec{Partitions: 3})
	require.NoError(t, err)
	_, err = kadm.NewClient(p).DeleteTopic(ctx, cfg.Topic)
	require.NoError(t, err)
	var second trade.TopicID
	require.Eventually(t, func() bool { // until the broker has heard of the end of the first
		second, err = CreateTopic(ctx, cfg, TopicSpec{Partitions: 3})
		return err == nil && second != first
	}, time.Minute, 50*time.Millisecond, "%v", err)
	seen, err := CheckTopic(ctx, p, cfg.Topic, 3)
	require.NoError(t, err)
	assert.Equal(t, second, seen)
}

func TestApacheKeepsRecordsAsTheyWereEncoded(t *testing.T) {
	t.Parallel()
	for _, codec := range []string{"none", "lz4", "snappy", "zstd", "gzip"} {
		t.Run(codec, func(t *testing.T) {
			cfg, ctx := apache(t, "server"), limit(t, time.Minute)
			cfg.Topic, cfg.Group, cfg.Compression = "trades-"+codec, "workers-"+codec, codec
			_, err := CreateTopic(ctx, cfg, TopicSpec{Partitions: 4})
			require.NoError(t, err)
			reg := prometheus.NewRegistry()
			p := producer(t, cfg, reg)
			var sent []*kgo.Record
			for i := range 20 {
				r := request()
				r.Trade.TradeID = fmt.Sprintf("T-%d", i)
				r.Partition = 2
				sent = append(sent, Encode(cfg.Topic, &r))
			}
			require.NoError(t, p.ProduceSync(ctx, sent...).FirstErr())

			cfg.ClientID = "worker"
			c, err := NewConsumer(cfg, reg, zerolog.Nop(), kgo.AdjustFetchOffsetsFn(
				func(_ context.Context, in map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
					for p := range in[cfg.Topic] {
						in[cfg.Topic][p] = kgo.NewOffset().At(0)
					}
					in[cfg.Topic][2] = kgo.NewOffset().At(5)
					return in, nil
				}))
			require.NoError(t, err)
			defer c.CloseAllowingRebalance()
			var got []*kgo.Record
			for len(got) < 15 {
				fetches := c.PollRecords(ctx, 1000)
				require.NoError(t, fetches.Err())
				got = append(got, fetches.Records()...)
				c.AllowRebalance()
			}
			for i, rec := range got {
				assert.Equal(t, int64(5+i), rec.Offset)
				assert.Equal(t, int32(2), rec.Partition)
				assert.Equal(t, sent[5+i].Value, rec.Value)
				assert.Equal(t, sent[5+i].Headers, rec.Headers)
				assert.Empty(t, decode(t, rec).Fault)
			}
			require.NoError(t, c.CommitRecords(ctx, got...))
		})
	}
}

// A foreign producer has a transaction open and never ends it: the partition goes on, and its record is one like any
// other that can't be stored (rule E7).
func TestApacheAnOpenTransactionStopsNothing(t *testing.T) {
	t.Parallel()
	cfg, ctx := apache(t, "server"), limit(t, time.Minute)
	_, err := CreateTopic(ctx, cfg, TopicSpec{Partitions: 1})
	require.NoError(t, err)
	foreign, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.DefaultProduceTopic(cfg.Topic),
		kgo.TransactionalID("foreign-"+cfg.Topic), kgo.TransactionTimeout(10*time.Minute))
	require.NoError(t, err)
	defer foreign.Close()
	require.NoError(t, foreign.BeginTransaction())
	require.NoError(t, foreign.ProduceSync(ctx, kgo.StringRecord("not a trade")).FirstErr())
	r := request()
	r.Partition = 0
	p := producer(t, cfg, prometheus.NewRegistry())
	require.NoError(t, p.ProduceSync(ctx, Encode(cfg.Topic, &r)).FirstErr())

	cfg.ClientID = "worker"
	c, err := NewConsumer(cfg, prometheus.NewRegistry(), zerolog.Nop(), kgo.AdjustFetchOffsetsFn(
		func(_ context.Context, in map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
			for p := range in[cfg.Topic] {
				in[cfg.Topic][p] = kgo.NewOffset().At(0)
			}
			return in, nil
		}))
	require.NoError(t, err)
	defer c.CloseAllowingRebalance()
	var got []*kgo.Record
	for len(got) < 2 {
		fetches := c.PollRecords(ctx, 1000)
		require.NoError(t, fetches.Err())
		got = append(got, fetches.Records()...)
		c.AllowRebalance()
	}
	for i, r := range got[:2] {
		record, err := Decode(r)
		require.NoError(t, err)
		require.Equal(t, i == 0, record.Fault != "")
	}
	ends, err := kadm.NewClient(p).ListEndOffsets(ctx, cfg.Topic)
	require.NoError(t, err)
	end, _ := ends.Lookup(cfg.Topic, 0)
	require.Equal(t, got[1].Offset+1, end.Offset, "what is applied reaches the end that an orphan waits for (rule R3)")
}

// Rule C4 with the real broker: a failed record is not in the log, a delivered one is there once. A record in flight
// when the broker stopped is resolved after its restart, whatever the delivery timeout.
func TestApacheKafkaStopsAndRestarts(t *testing.T) {
	broker := stack.ApacheKafka(t)
	cfg := Config{Brokers: broker.Addrs(), Topic: "trades", ClientID: "server", DeliveryTimeout: 2 * time.Second}
	_, err := CreateTopic(limit(t, time.Minute), cfg, TopicSpec{Partitions: 1})
	require.NoError(t, err)
	p := producer(t, cfg, prometheus.NewRegistry())
	var delivered []string
	send := func(ids ...string) (decide func()) {
		results := make(chan error, len(ids))
		for _, id := range ids {
			r := request()
			r.Trade.TradeID, r.Partition = id, 0
			p.Produce(context.Background(), Encode("trades", &r), func(_ *kgo.Record, err error) { results <- err })
		}
		return func() {
			for _, id := range ids { // one partition: they are decided in order
				select {
				case err := <-results:
					if err == nil {
						delivered = append(delivered, id)
					}
				case <-time.After(time.Minute):
					require.FailNow(t, "never decided", id)
				}
			}
		}
	}
	unreachable := func() {
		t.Helper()
		require.Eventually(t, func() bool { // a signal takes a moment to stop every thread
			err := Ping(limit(t, 500*time.Millisecond), p)
			return err != nil && strings.Contains(err.Error(), "no Kafka broker answers")
		}, time.Minute, time.Millisecond)
	}
	send("before")()
	broker.Kill()
	killed := send("killed-1", "killed-2")
	unreachable()
	require.NoError(t, broker.Restart(limit(t, time.Minute)))
	killed()
	send("between")()

	require.NoError(t, broker.Pause())
	frozen := send("frozen-1", "frozen-2")
	unreachable()
	require.NoError(t, broker.Resume())
	frozen()
	require.Eventually(t, func() bool { return Ping(limit(t, time.Second), p) == nil }, time.Minute, 50*time.Millisecond)
	send("after")()
	require.Contains(t, delivered, "before")
	require.Contains(t, delivered, "between")
	require.Contains(t, delivered, "after")
	require.Equal(t, delivered, tradeIDs(t, cfg))
}

// tradeIDs reads what partition 0 of the topic holds, up to its end.
func tradeIDs(t *testing.T, cfg Config) (ids []string) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{cfg.Topic: {0: kgo.NewOffset().AtStart()}}))
	require.NoError(t, err)
	defer c.Close()
	ctx := limit(t, time.Minute)
	ends, err := kadm.NewClient(c).ListEndOffsets(ctx, cfg.Topic)
	require.NoError(t, err)
	end, ok := ends.Lookup(cfg.Topic, 0)
	require.True(t, ok)
	for len(ids) < int(end.Offset) {
		fetches := c.PollFetches(ctx)
		require.NoError(t, fetches.Err())
		fetches.EachRecord(func(rec *kgo.Record) { ids = append(ids, decode(t, rec).Trade.TradeID) })
	}
	return ids
}
