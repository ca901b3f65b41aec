package app

import (
	"time"

	"tradestore/internal/settings"
	"tradestore/internal/telemetry"
	"tradestore/kafka"
	"tradestore/server"
	"tradestore/worker"
)

// ListenFlags say where the API is.
type ListenFlags struct {
	Listen string `name:"listen" group:"network" default:"127.0.0.1:8000" help:"Address of the API, host:port. There is no authentication: keep it on loopback or behind a proxy that has it."`
}

// RoleFlags are the settings that both roles have.
type RoleFlags struct {
	StoreFlags `embed:""`
	Promise    PromiseFlags `embed:""`
	Process    ProcessFlags `embed:""`
	Log        LogFlags     `embed:""`
}

func (f RoleFlags) check(m *settings.Mistakes) {
	f.StoreFlags.check(m)
	f.Promise.check(m)
	f.Process.check(m)
	f.Log.check(m)
	m.Add(telemetry.CheckTracing()) // tracing has no flags, but variables that all programs share
}

// ServerConfig holds the settings of the server role.
type ServerConfig struct {
	ListenFlags `embed:""`
	RoleFlags   `embed:""`
	Server      server.Config `embed:""`
}

// Validate lists every mistake in the settings, one per line, each with its flag; nil if there is none.
func (c ServerConfig) Validate() error {
	var m settings.Mistakes
	m.Address("--listen", c.Listen, true)
	c.check(&m)
	m.Add(c.Server.Validate())
	if c.Process.DrainTimeout <= c.Server.DrainDelay+c.Server.ReadTimeout {
		m.Addf("--drain-timeout: %v is not more than the sum of --drain-delay %v and --read-timeout %v: "+
			"a drain waits that long for a connection that sends nothing",
			c.Process.DrainTimeout, c.Server.DrainDelay, c.Server.ReadTimeout)
	}
	return m.Err()
}

// Role returns what server.New takes.
func (c ServerConfig) Role() server.Config {
	s := c.Server
	s.Topic, s.Partitions, s.AcceptDeadline = c.Kafka.Topic, c.Kafka.Partitions, c.Promise.AcceptDeadline
	return s
}

// producer leaves the linger at zero: batches grow under load by themselves, and a wait would only add latency.
func (c ServerConfig) producer() kafka.Config {
	k := c.Kafka.client("tradestore-server")
	k.Compression = c.Server.Compression
	k.DeliveryTimeout = c.Promise.DeliveryTimeout
	k.MaxBufferedRecords = c.Server.QueueItems // the producer takes whatever the queue lets in
	k.MaxBufferedBytes = c.Server.QueueBytes
	return k
}

// WorkerConfig holds the settings of the worker role.
type WorkerConfig struct {
	Listen    string `name:"listen" group:"network" default:"127.0.0.1:8001" help:"Address of /livez, /readyz and /metrics, host:port."`
	RoleFlags `embed:""`
	Worker    worker.Config `embed:""`
}

// Validate lists every mistake in the settings, one per line, each with its flag; nil if there is none.
func (c WorkerConfig) Validate() error {
	var m settings.Mistakes
	m.Address("--listen", c.Listen, true)
	c.check(&m)
	m.Add(c.Worker.Validate())
	return m.Err()
}

// Role returns what worker.New takes.
func (c WorkerConfig) Role() worker.Config {
	w := c.Worker
	w.Kafka, w.Partitions = c.Kafka.client("tradestore-worker"), c.Kafka.Partitions
	w.CheckInterval = c.Process.CheckInterval
	w.AcceptDeadline, w.DeliveryTimeout = c.Promise.AcceptDeadline, c.Promise.DeliveryTimeout
	w.OrphanAfter = c.Promise.OrphanAfter
	w.DrainLimit = c.Process.DrainTimeout / 3 // the batch in hand, the last outcomes, leaving the group
	return w
}

// MigrateConfig holds the settings of the migrate command.
type MigrateConfig struct {
	StoreFlags     `embed:""`
	Log            LogFlags      `embed:""`
	TopicRetention time.Duration `name:"topic-retention" group:"tuning" default:"72h" help:"How long the topic keeps a record; used when the topic is made. 0 leaves it to the broker."`
	Wait           time.Duration `name:"wait" group:"tuning" default:"60s" help:"How long to wait for each store to answer."`
	NewGeneration  bool          `name:"new-generation" env:"-" group:"stores" help:"Move to another topic, the one of --topic, with as many partitions or more. Stop the servers and let the workers finish first. The command changes nothing while work is left."`
	Set            string        `name:"set" env:"-" group:"stores" placeholder:"NAME=VALUE" help:"Change a setting that is the same for every process, like orphan-after=90s. Processes with the old value go on until --retire; those of another request store stop."`
	Retire         string        `name:"retire" env:"-" group:"stores" placeholder:"NAME" help:"End the change that --set began: the old value is no longer accepted. Restart every process with the new one first."`
	Promise        PromiseFlags  `embed:""`

	worker.OutcomeFlags `embed:""`

	// Adopt takes these settings, whatever was stored: there is no other process (dev).
	Adopt bool `kong:"-"`
}

// Validate lists every mistake in the settings, one per line, each with its flag; nil if there is none.
func (c MigrateConfig) Validate() error {
	var m settings.Mistakes
	c, _, err := c.withSet()
	m.Add(err)
	if c.Set != "" && c.Retire != "" || c.NewGeneration && c.Set+c.Retire != "" {
		m.Addf("--set: one call takes only one of --set, --retire and --new-generation")
	}
	c.check(&m)
	c.Log.check(&m)
	if c.TopicRetention != 0 {
		settings.Between(&m, "--topic-retention", c.TopicRetention, time.Hour, 365*day)
	}
	settings.Between(&m, "--wait", c.Wait, 100*time.Millisecond, time.Hour)
	c.Promise.check(&m)
	m.Add(c.OutcomeFlags.Validate())
	return m.Err()
}

// OrphansConfig holds the settings of the orphans command.
type OrphansConfig struct {
	StoreFlags          `embed:""`
	worker.OutcomeFlags `embed:""`
	OlderThan           time.Duration `name:"older-than" env:"-" group:"choice" default:"24h" help:"Requests that were accepted this long ago, or longer. At least 24h."`
	Close               bool          `name:"close" env:"-" help:"End them as FAILED with NOT_DELIVERED. Without it nothing is changed."`
	Timeout             time.Duration `name:"timeout" group:"tuning" default:"5m" help:"Time limit for the whole command."`
}

// Validate lists every mistake in the settings, one per line, each with its flag; nil if there is none.
func (c OrphansConfig) Validate() error {
	var m settings.Mistakes
	c.check(&m)
	m.Add(c.OutcomeFlags.Validate())
	settings.Between(&m, "--older-than", c.OlderThan, day, 10*365*day) // longer than any --orphan-after (rule R2)
	settings.Between(&m, "--timeout", c.Timeout, time.Second, day)
	return m.Err()
}

// CheckConfig holds the settings of the check command.
type CheckConfig struct {
	StoreFlags          `embed:""`
	Promise             PromiseFlags `embed:""`
	worker.OutcomeFlags `embed:""`
	Timeout             time.Duration `name:"timeout" group:"tuning" default:"5s" help:"Time limit for all checks together. A check that is not done then is unknown."`
}

// Validate lists every mistake in the settings, one per line, each with its flag; nil if there is none.
func (c CheckConfig) Validate() error {
	var m settings.Mistakes
	c.check(&m)
	c.Promise.check(&m)
	m.Add(c.OutcomeFlags.Validate())
	settings.Between(&m, "--timeout", c.Timeout, 100*time.Millisecond, time.Hour)
	return m.Err()
}
