package dev

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"tradestore/internal/app"
	"tradestore/internal/settings"
	"tradestore/server"
	"tradestore/worker"
)

const (
	maxPort  = 65535
	anyStore = "127.0.0.1:1" // stands for a store whose address is not known yet
)

// Config holds the settings of the dev command. It embeds the settings of both roles, so no flag may be in both.
type Config struct {
	app.ListenFlags    `embed:""`
	WorkerListen       string `name:"worker-listen" group:"network" default:"127.0.0.1:8001" help:"Address of the worker's /livez, /readyz and /metrics, host:port."`
	DataDir            string `name:"data-dir" group:"stores" default:"./tradestore-data" help:"Folder for all data, made when missing. One process at a time can use it."`
	KafkaPort          int    `name:"kafka-port" group:"stores" default:"0" help:"Port of the embedded Kafka on 127.0.0.1; 0 takes a free one and keeps it for the next start."`
	PostgresPort       int    `name:"postgres-port" group:"stores" default:"0" help:"Port of the embedded PostgreSQL on 127.0.0.1; 0 takes a free one and keeps it for the next start."`
	DatabaseURL        string `name:"database-url" group:"stores" placeholder:"postgres://USER:PASSWORD@HOST:5432/NAME" help:"URL of your own PostgreSQL, in place of the embedded one. It holds a password: set the environment variable, because every user of the machine can read flags with 'ps'."`
	app.PartitionFlags `embed:""`
	Remove             bool             `name:"remove" env:"-" group:"stores" help:"Delete the data folder and the database files, wherever they are, and run nothing."`
	Promise            app.PromiseFlags `embed:""`
	Server             server.Config    `embed:""`
	Worker             worker.Config    `embed:""`
	Process            app.ProcessFlags `embed:""`
	Log                app.LogFlags     `embed:""`
}

// Validate lists every mistake in the settings, one per line, each with its flag; nil if there is none.
func (c Config) Validate() error {
	var m settings.Mistakes
	if c.DataDir == "" {
		m.Addf("--data-dir: empty")
	}
	settings.Between(&m, "--kafka-port", c.KafkaPort, 0, maxPort)
	settings.Between(&m, "--postgres-port", c.PostgresPort, 0, maxPort)
	if c.DatabaseURL != "" && c.PostgresPort != 0 {
		m.Addf("--postgres-port: belongs to the embedded PostgreSQL, but --database-url names another one")
	}
	var lines []string
	collect := func(err error, replace ...string) {
		if err != nil {
			lines = append(lines, strings.Split(strings.NewReplacer(replace...).Replace(err.Error()), "\n")...)
		}
	}
	s := stores{kafka: []string{anyStore}, database: cmp.Or(c.DatabaseURL, "postgres://"+anyStore)}
	collect(m.Err())
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

// stores holds the addresses of the stores that run.
type stores struct {
	kafka    []string
	database string // URL with the password
}

// topic returns the default topic: the embedded Kafka has no other one.
func topic() string { return settings.Defaults[app.KafkaFlags]().Topic }

// role returns what both roles have in common, on the stores of this machine.
func (c Config) role(s stores) app.RoleFlags {
	f := app.RoleFlags{
		StoreFlags: settings.Defaults[app.StoreFlags](), Promise: c.Promise, Process: c.Process, Log: c.Log,
	}
	f.Kafka.Brokers, f.Kafka.PartitionFlags, f.Database.URL = s.kafka, c.PartitionFlags, s.database
	f.Profile.Profile = "single"
	return f
}

func (c Config) server(s stores) app.ServerConfig {
	return app.ServerConfig{ListenFlags: c.ListenFlags, RoleFlags: c.role(s), Server: c.Server}
}

func (c Config) worker(s stores) app.WorkerConfig {
	return app.WorkerConfig{Listen: c.WorkerListen, RoleFlags: c.role(s), Worker: c.Worker}
}

// migration leaves the retention to the broker: an embedded one cannot limit the age of records (embedded.KafkaConfig).
func (c Config) migration(s stores) app.MigrateConfig {
	return app.MigrateConfig{
		StoreFlags: c.role(s).StoreFlags, Log: c.Log, Wait: migrateWait,
		Promise: c.Promise, OutcomeFlags: c.Worker.OutcomeFlags, Adopt: true,
	}
}
