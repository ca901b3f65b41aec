package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"tradestore/internal/app"
	roles "tradestore/internal/settings"
	"tradestore/internal/telemetry"
	"tradestore/kafka"
	"tradestore/postgres"
	"tradestore/server"
	"tradestore/trade"
	"tradestore/worker"
)

// Defaults of the roles, and the variable with the database URL of a child.
const (
	topic       = "trades-inbound"
	partitions  = 12
	queueItems  = 8192 // the default of --queue-items
	drainLimit  = 10 * time.Second
	databaseVar = "TRADESTORE_DATABASE_URL"
)

// The stores of a chain that noopStore can replace. For the broker see startBroker.
const (
	lookUp       = "lookup"       // of the server: the highest stored version
	requestStore = "requeststore" // of the server: PENDING
	apply        = "apply"        // all stores of the worker
)

// chainSpec describes a whole chain in one process: server, worker and broker, composed as in `tradestore dev` with
// default settings, except for what is replaced.
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
	p := &chainProcess{}
	defer p.close()
	if err := c.build(context.Background(), brokers, p); err != nil {
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
	return p.run(ctx, api, metrics)
}

// chainProcess has the parts of a chain that are built so far.
type chainProcess struct {
	server  *server.Server
	worker  *worker.Worker
	metrics http.Handler // of the worker
	closers []func()
}

// close closes the connections, the last opened first.
func (p *chainProcess) close() {
	for _, f := range slices.Backward(p.closers) {
		f()
	}
}

// run serves until ctx ends or one of the two fails.
func (p *chainProcess) run(ctx context.Context, api, metrics net.Listener) error {
	scrapes := &http.Server{Handler: p.metrics, ReadHeaderTimeout: time.Second}
	work, inner := errgroup.WithContext(ctx)
	work.Go(func() error { return p.server.Serve(api) })
	work.Go(func() error { return p.worker.Run(inner) })
	work.Go(func() error {
		if err := scrapes.Serve(metrics); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	<-inner.Done()
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainLimit)
	defer cancel()
	drained := p.server.Drain(limit)
	_ = scrapes.Close()
	return errors.Join(work.Wait(), drained)
}

// build wires server and worker like internal/app, which cannot replace stores. The caller closes p, also after an
// error.
func (c chainSpec) build(ctx context.Context, brokers []string, p *chainProcess) error {
	log := zerolog.New(os.Stderr).Level(zerolog.WarnLevel)
	id, err := c.prepare(ctx, brokers, log)
	if err != nil {
		return err
	}
	if err := c.buildServer(ctx, p, brokers, log); err != nil {
		return err
	}
	return c.buildWorker(ctx, p, brokers, id, log)
}

// prepare creates the topic and, with a database, schema and positions.
func (c chainSpec) prepare(ctx context.Context, brokers []string, log zerolog.Logger) (trade.TopicID, error) {
	if c.needsDatabase() {
		cfg := roles.Defaults[app.MigrateConfig]()
		cfg.Kafka.Brokers, cfg.Kafka.Topic, cfg.Kafka.Partitions = brokers, topic, partitions
		cfg.Database.URL, cfg.Profile.Profile = c.database, "single"
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

func (c chainSpec) buildServer(ctx context.Context, p *chainProcess, brokers []string, log zerolog.Logger) error {
	deps := server.Deps{Requests: noopStore{}, Keys: noopStore{}, Trades: noopStore{}, Journal: noopStore{},
		Verified: func() error { return nil }, Registry: telemetry.NewRegistry(), Log: log}
	if c.has(requestStore) {
		pool, err := postgres.Open(ctx, postgres.Config{URL: c.database, MaxConns: 8, ApplicationName: "bench-requests"},
			deps.Registry)
		if err != nil {
			return err
		}
		p.closers = append(p.closers, pool.Close)
		requests := postgres.NewRequestStore(pool)
		deps.Requests, deps.Keys = requests, requests
	}
	if c.has(lookUp) {
		pool, err := postgres.Open(ctx, postgres.Config{URL: c.database, MaxConns: 8, ApplicationName: "bench-reads"},
			deps.Registry)
		if err != nil {
			return err
		}
		p.closers = append(p.closers, pool.Close)
		deps.Trades = postgres.NewReader(pool)
	}
	cfg := kafkaClient(brokers, "bench-server")
	cfg.MaxBufferedRecords = queueItems
	var err error
	if deps.Kafka, err = kafka.NewProducer(cfg, deps.Registry, log); err != nil {
		return err
	}
	p.closers = append(p.closers, deps.Kafka.Close)
	role := roles.Defaults[app.ServerConfig]()
	role.Kafka.Topic, role.Kafka.Partitions, role.Server.QueueItems = topic, partitions, queueItems
	p.server, err = server.New(role.Role(), deps)
	return err
}

func (c chainSpec) buildWorker(ctx context.Context, p *chainProcess, brokers []string, id trade.TopicID,
	log zerolog.Logger) error {
	reg := telemetry.NewRegistry()
	p.metrics = telemetry.Handler(reg)
	deps := worker.Deps{
		Store: newPositionStore(id, partitions), Journal: noopStore{}, Closer: noopStore{}, Requests: noopStore{},
		Maintainer: noopStore{},
		Registry:   reg, Log: log, Now: time.Now,
	}
	if c.has(apply) {
		const lanes = 2 // the worker's default; projector and reads of positions take two more
		pool, err := postgres.OpenWriter(ctx, postgres.Config{URL: c.database, MaxConns: lanes + 2,
			ApplicationName: "bench-apply"}, reg)
		if err != nil {
			return err
		}
		p.closers = append(p.closers, pool.Close)
		keep, err := postgres.Open(ctx, postgres.Config{URL: c.database, MaxConns: 2, ApplicationName: "bench-maintainer"},
			reg)
		if err != nil {
			return err
		}
		p.closers = append(p.closers, keep.Close)
		store := postgres.NewStore(pool, postgres.StoreConfig{Topic: topic})
		deps.Store, deps.Journal, deps.Closer, deps.Maintainer = store, store, store, postgres.NewMaintainer(keep)
		if c.has(requestStore) {
			deps.Requests = postgres.NewRequestStore(keep)
		}
	}
	role := roles.Defaults[app.WorkerConfig]()
	role.Kafka.Brokers, role.Kafka.Topic, role.Kafka.Partitions = brokers, topic, partitions
	role.Worker.Group = "bench-workers"
	var err error
	p.worker, err = worker.New(role.Role(), deps)
	return err
}
