package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"tradestore/internal/app"
	roles "tradestore/internal/settings"
	"tradestore/kafka"
	"tradestore/server"
	"tradestore/trade"
	"tradestore/worker"
)

// Defaults of the roles, and the variable with the database URL of a child.
const (
	topic       = "trades-inbound"
	partitions  = 12
	queueItems  = 8192 // the default of --queue-items
	databaseVar = "BENCH_DATABASE_URL"
)

// The stores of a chain that noopStore can replace. For the broker see startBroker.
const (
	lookUp       = "lookup"       // of the server: the highest stored version
	requestStore = "requeststore" // of the server: PENDING
	apply        = "apply"        // all stores of the worker
)

// chainSpec describes a whole chain in one process: broker, server and worker, with default settings and the wiring of
// internal/app, except for what is replaced.
type chainSpec struct {
	broker   string   // onDisk, inMemory or blackhole
	replaced []string // stores that do nothing
	database string   // URL, for stores that are not replaced
}

func (c chainSpec) has(store string) bool { return !slices.Contains(c.replaced, store) }

func (c chainSpec) needsDatabase() bool { return c.has(lookUp) || c.has(requestStore) || c.has(apply) }

// serveChain runs a chain until its parent ends it. dir is for the broker.
func serveChain(c chainSpec, dir string) error {
	brokers, stopBroker, err := startBroker(c.broker, dir)
	if err != nil {
		return err
	}
	defer stopBroker()
	log := zerolog.New(os.Stderr).Level(zerolog.WarnLevel)
	id, err := c.prepare(context.Background(), brokers, log)
	if err != nil {
		return err
	}
	api, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("cannot listen: %w", err)
	}
	metrics, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("cannot listen: %w", err)
	}
	ctx, err := announce(endpoint{API: api.Addr().String(), Worker: metrics.Addr().String()})
	if err != nil {
		return err
	}
	work, running := errgroup.WithContext(ctx)
	work.Go(func() error {
		cfg := roles.Defaults[app.ServerConfig]()
		cfg.StoreFlags = c.storeFlags(brokers)
		return app.RunServer(running, cfg, app.Env{Log: log, Listener: api, Stores: c.stores(id)})
	})
	work.Go(func() error {
		cfg := roles.Defaults[app.WorkerConfig]()
		cfg.StoreFlags = c.storeFlags(brokers)
		return app.RunWorker(running, cfg, app.Env{Log: log, Listener: metrics, Stores: c.stores(id)})
	})
	return work.Wait()
}

// storeFlags says where the stores are. A chain that needs no database names one that nothing connects to.
func (c chainSpec) storeFlags(brokers []string) app.StoreFlags {
	flags := roles.Defaults[app.StoreFlags]()
	flags.Kafka.Brokers, flags.Kafka.Topic, flags.Kafka.Partitions = brokers, topic, partitions
	flags.Database.URL, flags.Profile.Profile = c.database, "single"
	if !c.needsDatabase() {
		flags.Database.URL = "postgres://127.0.0.1:1/none"
	}
	return flags
}

// prepare creates the topic and, with a database, schema and positions.
func (c chainSpec) prepare(ctx context.Context, brokers []string, log zerolog.Logger) (trade.TopicID, error) {
	if c.needsDatabase() {
		cfg := roles.Defaults[app.MigrateConfig]()
		cfg.StoreFlags = c.storeFlags(brokers)
		cfg.TopicRetention, cfg.Wait = 0, startLimit
		if err := app.Migrate(ctx, cfg, log); err != nil {
			return trade.TopicID{}, err
		}
	}
	return kafka.CreateTopic(ctx, kafkaClient(brokers, "bench-topic"), kafka.TopicSpec{Partitions: partitions})
}

func kafkaClient(brokers []string, id string) kafka.Config {
	return kafka.Config{Brokers: brokers, Topic: topic, ClientID: id}
}

// stores replaces what the chain is measured without. The roles are ready without a database.
func (c chainSpec) stores(id trade.TopicID) *app.Stores {
	return &app.Stores{
		Server: func(d *server.Deps) {
			d.Checks = nil
			if !c.has(requestStore) {
				d.Requests, d.Keys = noopStore{}, noopStore{}
			}
			if !c.has(lookUp) {
				d.LookUp = noopStore{}
			}
			if !c.has(apply) {
				d.Journal = noopStore{}
			}
		},
		Worker: func(d *worker.Deps) {
			if !c.has(apply) {
				d.Store, d.Maintainer = newPositionStore(id, partitions), noopStore{}
				d.Journal, d.Closer = noopStore{}, noopStore{}
			}
			if !c.has(apply) || !c.has(requestStore) {
				d.Requests = noopStore{}
			}
		},
	}
}
