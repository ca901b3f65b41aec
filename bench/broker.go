package main

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kfake"

	"tradestore/internal/dev/embedded"
)

// Kinds of brokers of a chain.
const (
	onDisk    = "disk"      // the embedded broker of `tradestore dev`: it acknowledges a batch when it is on disk
	inMemory  = "memory"    // the same without disk
	blackhole = "blackhole" // it acknowledges and keeps nothing
)

// startBroker starts a broker in this process.
func startBroker(kind, dir string) (addrs []string, stop func(), err error) {
	if kind == blackhole {
		c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.BlackholeProduce(),
			kfake.BrokerConfigs(map[string]string{"default.replication.factor": "1"}))
		if err != nil {
			return nil, nil, fmt.Errorf("cannot start a broker that keeps nothing: %w", err)
		}
		return c.ListenAddrs(), c.Close, nil
	}
	cfg := embedded.KafkaConfig{Dir: dir}
	if kind == inMemory {
		cfg.Dir = ""
	}
	k, err := embedded.StartKafka(cfg)
	if err != nil {
		return nil, nil, err
	}
	return k.Addrs(), k.Close, nil
}

// serveBroker runs a broker in this child process until the parent ends it.
func serveBroker(kind, dir string) error {
	addrs, stop, err := startBroker(kind, dir)
	if err != nil {
		return err
	}
	defer stop()
	ctx, err := announce(endpoint{Brokers: addrs})
	if err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
