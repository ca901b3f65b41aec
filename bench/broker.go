package main

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kfake"

	"tradestore/internal/dev/embedded"
)

// The brokers that a chain can have.
const (
	onDisk    = "disk"      // the embedded broker as `tradestore dev` runs it: each batch is on disk before it is acknowledged
	inMemory  = "memory"    // the same without its disk
	blackhole = "blackhole" // it acknowledges and keeps nothing, so there is nothing to read
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

// serveBroker runs a broker as a process of its own, until its parent ends it.
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
