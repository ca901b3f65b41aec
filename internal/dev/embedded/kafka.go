package embedded

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kfake"

	"tradestore/internal/proc"
)

const (
	retentionBytes  = 256 << 20 // per partition, by default
	retentionPeriod = time.Minute
)

// KafkaConfig says where an embedded broker keeps its files and where it listens.
type KafkaConfig struct {
	Dir  string // made when missing, one broker at a time; empty: memory only, everything is gone at the end
	Port int    // on 127.0.0.1; 0: the one of the last time if it is free, else any free one
	// RetentionBytes bounds each partition: the oldest batches go first. 0: 256 MiB. A topic must not limit the age of
	// its records: the broker forgets the offsets of a partition that has become empty, and would start again at 0.
	RetentionBytes int64
	Log            zerolog.Logger // why the broker answers no more
}

// Kafka is a running broker: one node, in this process, without authentication.
type Kafka struct {
	cluster *kfake.Cluster
	disk    *durable // nil without a folder
	stop    chan struct{}
	once    sync.Once
	done    sync.WaitGroup
}

// StartKafka starts a broker. With a folder, each produced batch is on disk before it is acknowledged, and topics,
// their ids, records and group offsets are there again after a restart, be it after kill -9. Topics aren't made by use.
// Errors: proc.ErrPortTaken.
func StartKafka(cfg KafkaConfig) (*Kafka, error) {
	if cfg.RetentionBytes == 0 {
		cfg.RetentionBytes = retentionBytes
	}
	opts := []kfake.Opt{
		kfake.NumBrokers(1), kfake.ClusterID("tradestore-dev"),
		kfake.BrokerConfigs(map[string]string{
			"log.retention.ms":           "-1",
			"log.retention.bytes":        fmt.Sprint(cfg.RetentionBytes),
			"default.replication.factor": "1",
		}),
	}
	k := &Kafka{stop: make(chan struct{})}
	if cfg.Dir != "" {
		if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
			return nil, fmt.Errorf("cannot start the embedded broker: %w", err)
		}
		port, err := proc.ChoosePort(cfg.Port, filepath.Join(cfg.Dir, "port"))
		if err != nil {
			return nil, fmt.Errorf("cannot start the embedded broker: %w", err)
		}
		cfg.Port = port
		data := filepath.Join(cfg.Dir, "data")
		k.disk = newDurable(data, func(err error) {
			cfg.Log.Error().Err(err).Str("folder", data).
				Msg("the broker's disk failed: it answers nothing until it is started again")
		})
		opts = append(opts, kfake.DataDir(data), kfake.ListenFn(k.disk.listen))
	}
	var err error
	k.cluster, err = kfake.NewCluster(append(opts, kfake.Ports(cfg.Port))...)
	if err != nil {
		return nil, fmt.Errorf("cannot start the embedded broker in %q: %w", cfg.Dir, err)
	}
	k.done.Go(k.retain)
	return k, nil
}

// retain applies the retention now and then. The broker's own timer does not run again after a restart.
func (k *Kafka) retain() {
	tick := time.NewTicker(retentionPeriod)
	defer tick.Stop()
	for {
		k.cluster.ApplyRetention()
		select {
		case <-tick.C:
		case <-k.stop:
			return
		}
	}
}

// Addrs are the addresses for clients to start from.
func (k *Kafka) Addrs() []string { return k.cluster.ListenAddrs() }

// Close ends all connections and writes down what a restart needs. Calling it again is harmless.
func (k *Kafka) Close() {
	k.once.Do(func() {
		close(k.stop)
		k.done.Wait()
		k.cluster.Close()
		if k.disk != nil {
			_ = k.disk.flush() // what Close writes speeds up the next start; no promise rests on it
		}
	})
}
