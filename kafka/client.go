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
	Topic    string   // of the log; required
	ClientID string   // names the client in the broker's logs and in metrics; unique in the process; required

	// Options are further options of the client, such as TLS, SASL or a dialer. They are applied last, so they must not
	// touch what the delivery contract fixes: acks, idempotence, the partitioner, autocommit and the offset reset.
	Options []kgo.Opt

	// The producer.
	Linger             time.Duration // how long a record waits for others; 0 sends at once, and batches grow under load
	Compression        string        // none, lz4, snappy, zstd or gzip; default none
	MaxBufferedRecords int           // default 50,000; when full, TryProduce fails at once
	MaxBufferedBytes   int           // default 64 MiB
	DeliveryTimeout    time.Duration // after which a record fails unless it is under way; at least 1 s, default 10 s

	// The consumer.
	Group             string        // of the workers; required for a consumer
	SessionTimeout    time.Duration // without a heartbeat, after which a member counts as dead; default 45 s
	RebalanceTimeout  time.Duration // that members have to give up partitions; default 60 s; must exceed the transaction limit
	FetchMaxBytes     int32         // of one fetch from one broker; default 16 MiB
	FetchMaxPartition int32         // bytes of one partition in one fetch; default 1 MiB
	FetchMaxWait      time.Duration // that an idle fetch waits at the broker; default 1 s; a record ends it at once
}

// Limits that no deployment should need to move.
const (
	metadataMinAge = time.Second      // between two looks for a moved leader; the client's own 5 s is half a delivery timeout
	maxBatchBytes  = 1_000_012        // Kafka's default max.message.bytes
	maxDecompress  = 64 << 20         // a batch that inflates beyond it was not written by us
	dialTimeout    = 5 * time.Second  // to one broker
	fetchIdle      = time.Second      // default of FetchMaxWait
	deliveryLimit  = 10 * time.Second // default of DeliveryTimeout
)

var codecs = map[string]kgo.CompressionCodec{
	"": kgo.NoCompression(), "none": kgo.NoCompression(), "lz4": kgo.Lz4Compression(), "snappy": kgo.SnappyCompression(),
	"zstd": kgo.ZstdCompression(), "gzip": kgo.GzipCompression(),
}

// NewProducer returns a client that writes to cfg.Topic. A delivered record is on all in-sync replicas, once and in
// order; a record that was sent can't be cancelled, because cancelling does not pull it back (rule C4). The partition
// is the one set in the record. It opens no connection, so it does not fail when the brokers are down.
func NewProducer(cfg Config, reg prometheus.Registerer, log zerolog.Logger) (*kgo.Client, error) {
	codec, ok := codecs[cfg.Compression]
	if !ok {
		return nil, fmt.Errorf("cannot make Kafka producer: compression %q is not one of none, lz4, snappy, zstd, gzip", cfg.Compression)
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
		// A broker that went silent is given up after half of the delivery time, so that the other half serves a retry.
		kgo.ProduceRequestTimeout(max(limit/4, 100*time.Millisecond)),
		kgo.RequestTimeoutOverhead(max(limit/4, 100*time.Millisecond)),
	)
}

// NewConsumer returns a member of cfg.Group that reads cfg.Topic. Nothing moves its position but the caller: there is
// no autocommit, and an offset outside the log is an error, not a jump (rule A8). Rebalances wait while polled records
// are in hand, until AllowRebalance. The callbacks of the group are the caller's, through opts.
func NewConsumer(cfg Config, reg prometheus.Registerer, log zerolog.Logger, opts ...kgo.Opt) (*kgo.Client, error) {
	if cfg.Group == "" {
		return nil, errors.New("cannot make Kafka consumer: no consumer group given")
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
		// A record of a transaction that was aborted was never acknowledged to anyone.
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
	}
	return newClient(cfg, reg, log, append(base, opts...)...)
}

// Ping says whether a broker answers. The answer is fresh; bound it by ctx.
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
	if err := reg.Register(newFromStart(metrics)); err != nil {
		client.Close()
		return nil, fmt.Errorf("cannot register metrics of Kafka client %q: %w", cfg.ClientID, err)
	}
	return client, nil
}
