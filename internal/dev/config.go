package dev

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"tradestore/internal/app"
)

const (
	topic    = "trades-inbound"
	maxPort  = 65535
	anyStore = "127.0.0.1:1" // stands for a store whose address is not known yet
)

// Config holds the settings of the dev command.
type Config struct {
	Listen       string           `name:"listen" group:"network" default:"127.0.0.1:8000" help:"Address of the API, host:port. There is no authentication: keep it on loopback."`
	WorkerListen string           `name:"worker-listen" group:"network" default:"127.0.0.1:8001" help:"Address of the worker's /livez, /readyz and /metrics, host:port."`
	DataDir      string           `name:"data-dir" group:"stores" default:"./tradestore-data" help:"Folder for all data, made when missing. One process at a time."`
	KafkaPort    int              `name:"kafka-port" group:"stores" default:"0" help:"Port of the embedded Kafka on 127.0.0.1; 0 takes a free one and keeps it for the next start."`
	PostgresPort int              `name:"postgres-port" group:"stores" default:"0" help:"Port of the embedded PostgreSQL on 127.0.0.1; 0 takes a free one and keeps it for the next start."`
	DatabaseURL  string           `name:"database-url" group:"stores" placeholder:"postgres://USER:PASSWORD@HOST:5432/NAME" help:"Your own PostgreSQL in place of the embedded one. It holds a password: set the environment variable, because everyone on the machine can read flags with 'ps'."`
	Partitions   int              `name:"partitions" group:"stores" default:"12" help:"Partitions of the topic. Fixed when the data folder is new."`
	Remove       bool             `name:"remove" env:"-" group:"stores" help:"Delete the data folder, with the database files wherever they are, and run nothing."`
	Promise      app.PromiseFlags `embed:""`
	Server       app.ServerTuning `embed:""`
	Worker       app.WorkerTuning `embed:""`
	Check        app.CheckFlags   `embed:""`
	Drain        app.DrainFlags   `embed:""`
	Log          app.LogFlags     `embed:""`
}

// Validate lists every mistake in the settings, one per line, each with its flag; nil if there is none.
func (c Config) Validate() error {
	var lines []string
	collect := func(err error, replace ...string) {
		if err != nil {
			lines = append(lines, strings.Split(strings.NewReplacer(replace...).Replace(err.Error()), "\n")...)
		}
	}
	if c.DataDir == "" {
		collect(errors.New("--data-dir: empty"))
	}
	if c.KafkaPort < 0 || c.KafkaPort > maxPort {
		collect(errors.New("--kafka-port: not between 0 and 65535"))
	}
	if c.PostgresPort < 0 || c.PostgresPort > maxPort {
		collect(errors.New("--postgres-port: not between 0 and 65535"))
	}
	if c.DatabaseURL != "" && c.PostgresPort != 0 {
		collect(errors.New("--postgres-port: is of the embedded PostgreSQL, and --database-url names another"))
	}
	s := stores{kafka: []string{anyStore}, database: cmp.Or(c.DatabaseURL, "postgres://"+anyStore)}
	collect(c.server(s).Validate())
	collect(c.worker(s).Validate(), "--listen:", "--worker-listen:")
	collect(c.migration(s).Validate())
	slices.Sort(lines)
	errs := make([]error, 0, len(lines))
	for _, line := range slices.Compact(lines) { // the roles have settings in common
		errs = append(errs, errors.New(line))
	}
	return errors.Join(errs...)
}

// stores says where the stores turned out to be.
type stores struct {
	kafka    []string
	database string // URL with the password
}

func (c Config) kafka(s stores) app.KafkaFlags {
	return app.KafkaFlags{Brokers: s.kafka, Topic: topic, Partitions: c.Partitions}
}

var (
	single     = app.ProfileFlags{Profile: "single"}
	inPostgres = app.RequestStoreFlags{Kind: "postgres", Table: "trade-requests"}
)

func (c Config) server(s stores) app.ServerConfig {
	return app.ServerConfig{
		Listen: c.Listen, Kafka: c.kafka(s), Database: app.DatabaseFlags{URL: s.database},
		RequestStore: inPostgres, Profile: single, Log: c.Log, Promise: c.Promise, Tuning: c.Server, Check: c.Check,
		Drain: c.Drain,
	}
}

func (c Config) worker(s stores) app.WorkerConfig {
	return app.WorkerConfig{
		Listen: c.WorkerListen, Kafka: c.kafka(s), Database: app.DatabaseFlags{URL: s.database},
		RequestStore: inPostgres, Profile: single, Log: c.Log, Promise: c.Promise, Tuning: c.Worker, Check: c.Check,
		Drain: c.Drain,
	}
}

// migration leaves the retention to the broker: an embedded one can't limit the age of records (embedded.KafkaConfig).
func (c Config) migration(s stores) app.MigrateConfig {
	return app.MigrateConfig{
		Kafka: c.kafka(s), Database: app.DatabaseFlags{URL: s.database}, RequestStore: inPostgres, Profile: single,
		Log: c.Log, Wait: migrateWait,
	}
}
