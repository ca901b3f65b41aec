package kafka

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func broker(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	return cluster
}

func config(cluster *kfake.Cluster, id string) Config {
	return Config{Brokers: cluster.ListenAddrs(), Topic: "trades", ClientID: id, Group: "workers"}
}

func producer(t *testing.T, cfg Config, reg prometheus.Registerer) *kgo.Client {
	t.Helper()
	client, err := NewProducer(cfg, reg, zerolog.Nop())
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return client
}

func limit(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestWhatIsProducedIsConsumedFromTheGivenPosition(t *testing.T) {
	t.Parallel()
	for _, codec := range []string{"", "none", "lz4", "snappy", "zstd", "gzip"} {
		t.Run("compression "+codec, func(t *testing.T) {
			cluster, reg := broker(t, kfake.SeedTopics(4, "trades")), prometheus.NewRegistry()
			cfg := config(cluster, "server")
			cfg.Compression = codec
			p := producer(t, cfg, reg)
			var sent []*kgo.Record
			for i := range 50 {
				r := request()
				r.Trade.TradeID = fmt.Sprintf("T-%d", i)
				r.Partition = 2
				sent = append(sent, Encode("trades", &r))
			}
			require.NoError(t, p.ProduceSync(limit(t, 10*time.Second), sent...).FirstErr())

			cfg.ClientID = "worker" // in the same registry, as when both roles share a process
			c, err := NewConsumer(cfg, reg, zerolog.Nop(), kgo.AdjustFetchOffsetsFn(
				func(_ context.Context, in map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
					for p := range in["trades"] {
						in["trades"][p] = kgo.NewOffset().At(0)
					}
					in["trades"][2] = kgo.NewOffset().At(10)
					return in, nil
				}))
			require.NoError(t, err)
			defer c.CloseAllowingRebalance()
			var got []*kgo.Record
			for ctx := limit(t, 20*time.Second); len(got) < 40; {
				fetches := c.PollRecords(ctx, 1000)
				require.NoError(t, fetches.Err())
				got = append(got, fetches.Records()...)
				c.AllowRebalance()
			}
			for i, rec := range got {
				assert.Equal(t, int64(10+i), rec.Offset)
				assert.Equal(t, sent[10+i].Value, rec.Value)
				assert.Empty(t, decode(t, rec).Fault)
			}
			families, err := reg.Gather()
			require.NoError(t, err)
			for _, family := range families {
				assert.True(t, strings.HasPrefix(family.GetName(), "tradestore_kafka_"), family.GetName())
			}
		})
	}
}

func TestDeliveryFailsAfterItsTimeLimitAndSendsNothingLater(t *testing.T) {
	t.Parallel()
	cluster := broker(t, kfake.SeedTopics(1, "trades"))
	cfg := config(cluster, "server")
	cfg.DeliveryTimeout = time.Second
	p := producer(t, cfg, prometheus.NewRegistry())
	cluster.Close()
	r := request()
	r.Partition = 0
	require.Error(t, p.ProduceSync(limit(t, 30*time.Second), Encode("trades", &r)).FirstErr())
	require.Zero(t, p.BufferedProduceRecords())
}

func TestPartitionOutsideTheTopicFailsTheRecord(t *testing.T) {
	t.Parallel()
	p := producer(t, config(broker(t, kfake.SeedTopics(1, "trades")), "server"), prometheus.NewRegistry())
	r := request() // partition 3
	require.Error(t, p.ProduceSync(limit(t, 20*time.Second), Encode("trades", &r)).FirstErr())
}

func TestPingTellsWhetherABrokerAnswers(t *testing.T) {
	t.Parallel()
	cluster := broker(t)
	p := producer(t, config(cluster, "server"), prometheus.NewRegistry())
	require.NoError(t, Ping(limit(t, 10*time.Second), p))
	cluster.Close()
	require.ErrorContains(t, Ping(limit(t, 10*time.Second), p), "no Kafka broker answers")
}

func TestWrongSettingsAreRefused(t *testing.T) {
	t.Parallel()
	cluster, reg := broker(t), prometheus.NewRegistry()
	type newFunc func(Config, prometheus.Registerer, zerolog.Logger) (*kgo.Client, error)
	f := func(change func(*Config), newClient newFunc, want string) {
		t.Helper()
		cfg := config(cluster, "client")
		change(&cfg)
		_, err := newClient(cfg, reg, zerolog.Nop())
		assert.ErrorContains(t, err, want)
	}
	consumer := func(cfg Config, reg prometheus.Registerer, log zerolog.Logger) (*kgo.Client, error) {
		return NewConsumer(cfg, reg, log)
	}
	f(func(c *Config) { c.Brokers = nil }, NewProducer, "brokers")
	f(func(c *Config) { c.Topic = "" }, NewProducer, "topic")
	f(func(c *Config) { c.ClientID = "" }, consumer, "client id")
	f(func(c *Config) { c.Group = "" }, consumer, "group")
	f(func(c *Config) { c.Compression = "rar" }, NewProducer, `"rar" is not one of none, lz4`)
	f(func(c *Config) { c.MaxBufferedBytes = -1 }, NewProducer, "cannot make Kafka client")
}

func TestAClientIDCanBeUsedAgainAfterItsClientClosed(t *testing.T) {
	t.Parallel()
	cluster, reg := broker(t), prometheus.NewRegistry()
	first := producer(t, config(cluster, "server"), reg)
	_, err := NewProducer(config(cluster, "server"), reg, zerolog.Nop())
	require.ErrorContains(t, err, "cannot register metrics")
	first.Close()
	producer(t, config(cluster, "server"), reg)
}

// A metric that is exported with its first event hides that event from a rate.
func TestMetricsOfAClientStartAtZero(t *testing.T) {
	t.Parallel()
	cluster, reg := broker(t, kfake.SeedTopics(1, "trades")), prometheus.NewRegistry()
	client := producer(t, config(cluster, "server"), reg)
	value := func(name string) float64 {
		families, err := reg.Gather()
		require.NoError(t, err)
		for _, f := range families {
			if f.GetName() == "tradestore_kafka_"+name {
				m := f.GetMetric()[0]
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
		return -1
	}
	for _, name := range []string{
		"connect_errors_total", "write_errors_total", "read_errors_total", "produce_records_total", "fetch_records_total",
		"request_throttled_seconds", "request_duration_e2e_seconds", "buffered_produce_records_total",
	} {
		assert.Zero(t, value(name), name)
	}
	r := request()
	r.Partition = 0
	require.NoError(t, client.ProduceSync(limit(t, 10*time.Second), Encode("trades", &r)).FirstErr())
	require.Eventually(t, func() bool { // the client counts a batch after it has called back
		return value("produce_records_total") == 1
	}, 10*time.Second, time.Millisecond)
	assert.Positive(t, value("request_duration_e2e_seconds"))
	assert.Zero(t, value("connect_errors_total"))
}

func TestTheClientLogsThroughZerolog(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := logger{zerolog.New(&out).Level(zerolog.DebugLevel)}
	assert.Equal(t, kgo.LogLevelInfo, l.Level())
	l.Log(kgo.LogLevelError, "cannot reach broker", "broker", 1, "err", fmt.Errorf("refused"), "odd")
	assert.JSONEq(t, `{"level":"warn","broker":"1","err":"refused","message":"kafka: cannot reach broker"}`, out.String())
	assert.Equal(t, kgo.LogLevelWarn, logger{zerolog.New(&out).Level(zerolog.InfoLevel)}.Level())
}
