package embedded

import (
	"fmt"
	"os"

	"github.com/twmb/franz-go/pkg/kfake"
)

// KafkaConfig says where an embedded broker keeps its files and where it listens.
type KafkaConfig struct {
	Dir  string // made when missing, one broker at a time; empty: memory only, everything is gone at the end
	Port int    // on 127.0.0.1; 0: a free one
}

// Kafka is a running broker: one node, in this process, without authentication.
type Kafka struct {
	cluster *kfake.Cluster
}

// StartKafka starts a broker. With a folder, each produced batch is on disk before it is acknowledged, and topics, their
// ids, records and group offsets are there again after a restart, be it after kill -9. Topics aren't made by use.
func StartKafka(cfg KafkaConfig) (*Kafka, error) {
	opts := []kfake.Opt{
		kfake.NumBrokers(1), kfake.Ports(cfg.Port), kfake.ClusterID("tradestore-dev"),
	}
	if cfg.Dir != "" {
		if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
			return nil, fmt.Errorf("cannot make the broker's folder: %w", err)
		}
		opts = append(opts, kfake.DataDir(cfg.Dir), kfake.SyncWrites())
	}
	cluster, err := kfake.NewCluster(opts...)
	if err != nil {
		return nil, fmt.Errorf("cannot start the embedded broker on port %d: %w", cfg.Port, err)
	}
	return &Kafka{cluster}, nil
}

// Addrs are the addresses for clients to start from.
func (k *Kafka) Addrs() []string { return k.cluster.ListenAddrs() }

// Close ends all connections and writes down what a restart needs.
func (k *Kafka) Close() { k.cluster.Close() }
