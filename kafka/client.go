package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Config holds the settings of a client. A zero value takes the default named at the field.
type Config struct {
	Brokers  []string // host:port of the brokers to start from; required
	Topic    string   // required
	ClientID string   // the client's name in broker logs and metrics; unique in the process; required

	// Options are further options of the client, such as TLS, SASL or a dialer. They are applied last, so they must not
	// change what delivery rests on: acks, idempotence, the partitioner, autocommit and the offset reset.
	Options []kgo.Opt

	// The producer.
	Linger             time.Duration // how long a record waits for others; 0 sends at once
	Compression        string        // none, lz4, snappy, zstd or gzip; default none
	MaxBufferedRecords int           // default 50,000; above it TryProduce fails at once
	MaxBufferedBytes   int           // default 64 MiB
	DeliveryTimeout    time.Duration // after which a record that was not sent fails; at least 1 s, default 10 s

	// The consumer.
	Group             string        // consumer group; required for a consumer
	SessionTimeout    time.Duration // without a heartbeat, until a member counts as dead; default 45 s
	RebalanceTimeout  time.Duration // for members to give up partitions; default 60 s; above the transaction limit
	FetchMaxBytes     int32         // of one fetch from one broker; default 16 MiB
	FetchMaxPartition int32         // bytes of one partition in one fetch; default 1 MiB
	FetchMaxWait      time.Duration // that a fetch waits at the broker for a record; default 1 s
}

// Limits that no deployment should need to change.
const (
	metadataMinAge = time.Second      // between two metadata requests; franz-go's 5 s is half a delivery timeout
	maxBatchBytes  = 1_000_012        // Kafka's default max.message.bytes
	maxDecompress  = 64 << 20         // bytes; a batch that needs more was not written by us
	dialTimeout    = 5 * time.Second  // to one broker
	fetchIdle      = time.Second      // default of FetchMaxWait
	deliveryLimit  = 10 * time.Second // default of DeliveryTimeout
)

var codecs = map[string]kgo.CompressionCodec{
	"": kgo.NoCompression(), "none": kgo.NoCompression(), "lz4": kgo.Lz4Compression(), "snappy": kgo.SnappyCompression(),
	"zstd": kgo.ZstdCompression(), "gzip": kgo.GzipCompression(),
}

// NewProducer returns a client that writes to cfg.Topic, to the partition that is set in the record. A delivered record
// is on all in-sync replicas, once and in order. A record that was sent can't be cancelled (rule C4). NewProducer opens
// no connection, so it does not fail when the brokers are down.
func NewProducer(cfg Config, reg prometheus.Registerer, log zerolog.Logger) (*kgo.Client, error) {
	codec, ok := codecs[cfg.Compression]
	if !ok {
		return nil, fmt.Errorf("cannot make Kafka producer: compression %q is not one of none, lz4, snappy, zstd, gzip",
			cfg.Compression)
	}
	limit := cmp.Or(cfg.DeliveryTimeout, deliveryLimit)
	return newClient(cfg, reg, log,
		kgo.DefaultProduceTopicAlways(),
		kgo.DefaultProduceTopic(cfg.Topic),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(cfg.Linger),
		kgo.ProducerBatchCompression(codec),
		kgo.ProducerBatchMaxBytes(maxBatchBytes),
		kgo.MaxBufferedRecords(cmp.Or(cfg.MaxBufferedRecords, 50_000)),
		kgo.MaxBufferedBytes(cmp.Or(cfg.MaxBufferedBytes, 64<<20)),
		kgo.RecordDeliveryTimeout(limit),
		// A request without an answer ends after half of the delivery timeout; the other half is left for a retry.
		kgo.ProduceRequestTimeout(max(limit/4, 100*time.Millisecond)),
		kgo.RequestTimeoutOverhead(max(limit/4, 100*time.Millisecond)),
	)
}

// NewConsumer returns a member of cfg.Group that reads cfg.Topic. Only the caller moves its position: there is no
// autocommit, and an offset outside the log is an error, never a reset (rule A8). After a poll a rebalance waits until
// AllowRebalance. The caller passes the callbacks of the group in opts.
func NewConsumer(cfg Config, reg prometheus.Registerer, log zerolog.Logger, opts ...kgo.Opt) (*kgo.Client, error) {
	if cfg.Group == "" {
		return nil, errors.New("cannot make Kafka consumer: the consumer group must be given")
	}
	base := []kgo.Opt{
		kgo.ConsumeTopics(cfg.Topic),
		kgo.ConsumerGroup(cfg.Group),
		kgo.DisableAutoCommit(),
		kgo.ConsumeStartOffset(kgo.NoResetOffset()),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.BlockRebalanceOnPoll(),
		kgo.SessionTimeout(cmp.Or(cfg.SessionTimeout, 45*time.Second)),
		kgo.HeartbeatInterval(min(3*time.Second, cmp.Or(cfg.SessionTimeout, 45*time.Second)/3)),
		kgo.RebalanceTimeout(cmp.Or(cfg.RebalanceTimeout, 60*time.Second)),
		kgo.FetchMaxBytes(cmp.Or(cfg.FetchMaxBytes, 16<<20)),
		kgo.FetchMaxPartitionBytes(cmp.Or(cfg.FetchMaxPartition, 1<<20)),
		kgo.FetchMaxWait(cmp.Or(cfg.FetchMaxWait, fetchIdle)),
		kgo.MaxDecompressBatchBytes(maxDecompress),
		// The producer of the servers has no transactions. A foreign one that never ends must not stop a partition (rule E7).
		kgo.FetchIsolationLevel(kgo.ReadUncommitted()),
	}
	return newClient(cfg, reg, log, append(base, opts...)...)
}

// Ping returns nil if a broker answers now. ctx is its only time limit.
func Ping(ctx context.Context, client *kgo.Client) error {
	if err := client.Ping(ctx); err != nil {
		return fmt.Errorf("no Kafka broker answers: %w", err)
	}
	return nil
}

func newClient(cfg Config, reg prometheus.Registerer, log zerolog.Logger, opts ...kgo.Opt) (*kgo.Client, error) {
	if len(cfg.Brokers) == 0 || cfg.Topic == "" || cfg.ClientID == "" {
		return nil, errors.New("cannot make Kafka client: brokers, topic and client id must be given")
	}
	metrics := newClientMetrics(cfg.ClientID)
	opts = append([]kgo.Opt{
		kgo.SeedBrokers(cfg.Brokers...),
		kgo.ClientID(cfg.ClientID),
		kgo.DialTimeout(dialTimeout),
		kgo.MetadataMinAge(metadataMinAge),
		kgo.WithLogger(logger{log.With().Str("client", cfg.ClientID).Logger()}),
		kgo.WithHooks(metrics, unregister{metrics, reg}),
	}, opts...)
	client, err := kgo.NewClient(append(opts, cfg.Options...)...)
	if err != nil {
		return nil, fmt.Errorf("cannot make Kafka client %q: %w", cfg.ClientID, err)
	}
	if err := reg.Register(newZeroMetrics(metrics)); err != nil {
		client.Close()
		return nil, fmt.Errorf("cannot register metrics of Kafka client %q: %w", cfg.ClientID, err)
	}
	return client, nil
}
