package app

import (
	"net/url"
	"strings"
	"time"

	"tradestore/internal/settings"
	"tradestore/internal/telemetry"
	"tradestore/worker"
)

// The groups of flags that several commands share. Each flag, its default and its rule are here, once. Settings of one
// role alone are in server.Config and worker.Config.

// StoreFlags say where the stores are.
type StoreFlags struct {
	Kafka        KafkaFlags        `embed:""`
	Database     DatabaseFlags     `embed:""`
	RequestStore RequestStoreFlags `embed:""`
	Profile      ProfileFlags      `embed:""`
}

func (f StoreFlags) check(m *settings.Mistakes) {
	f.Kafka.check(m)
	f.Database.check(m)
	f.RequestStore.check(m)
	m.OneOf("--profile", f.Profile.Profile, "production", singleMachine)
}

// KafkaFlags say where the topic is.
type KafkaFlags struct {
	Brokers        []string `name:"kafka-brokers" group:"stores" default:"127.0.0.1:9092" help:"Kafka brokers for the first connection: host:port, separated by commas."`
	Topic          string   `name:"topic" group:"stores" default:"trades-inbound" help:"Topic of the accepted trades."`
	PartitionFlags `embed:""`
}

// PartitionFlags say how many partitions the topic has.
type PartitionFlags struct {
	Partitions int `name:"partitions" group:"stores" default:"12" help:"Number of partitions of the topic. It is the same for every process, and fixed when the topic is made."`
}

func (f KafkaFlags) check(m *settings.Mistakes) {
	if len(f.Brokers) == 0 {
		m.Addf("--kafka-brokers: no broker given")
	}
	for _, broker := range f.Brokers {
		m.Address("--kafka-brokers", broker, false)
	}
	if !topicName(f.Topic) {
		m.Addf("--topic: %q is not a topic name: 1 to 249 of A-Z a-z 0-9 . _ -", f.Topic)
	}
	settings.Between(m, "--partitions", f.Partitions, 1, maxPartitions)
}

// maxPartitions bounds one poll of a worker that owns them all; brokers get slow long before.
const maxPartitions = 1000

const topicLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

func topicName(s string) bool {
	if s == "." || s == ".." || len(s) < 1 || len(s) > 249 {
		return false
	}
	return strings.Trim(s, topicLetters) == ""
}

// DatabaseFlags say where PostgreSQL is. It must be the writer: decisions taken on a replica would be wrong.
type DatabaseFlags struct {
	URL string `name:"database-url" group:"stores" placeholder:"postgres://USER:PASSWORD@HOST:5432/NAME" help:"URL of the PostgreSQL that stores the trades; required. It holds a password: set the environment variable, because every user of the machine can read flags with 'ps'."`
}

// check never quotes the URL: in a text that is no URL, the place of the password is not known.
func (f DatabaseFlags) check(m *settings.Mistakes) {
	const example = "like postgres://user:password@127.0.0.1:5432/tradestore" //nolint:gosec // no real password
	if f.URL == "" {
		m.Addf("--database-url: required; set TRADESTORE_DATABASE_URL, " + example)
		return
	}
	u, err := url.Parse(f.URL)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Host == "" {
		m.Addf("--database-url: not a URL " + example + "; special characters in a password are written as %%XX")
	}
}

// RequestStoreFlags say where the requests of clients are tracked.
type RequestStoreFlags struct {
	Kind     string `name:"request-store" group:"stores" default:"postgres" help:"Store of the requests and their outcomes: postgres or dynamodb. It is the same for every process."`
	Table    string `name:"dynamodb-table" group:"stores" default:"trade-requests" help:"Table of the request store on DynamoDB."`
	Endpoint string `name:"dynamodb-endpoint" group:"stores" placeholder:"http://HOST:PORT" help:"URL of a DynamoDB outside AWS, like DynamoDB Local; on loopback it needs no credentials. Without it, region and credentials come from the standard AWS chain: AWS_REGION, AWS_ACCESS_KEY_ID, AWS_PROFILE, or the role of the machine."`
}

func (f RequestStoreFlags) check(m *settings.Mistakes) {
	m.OneOf("--request-store", f.Kind, onPostgres, onDynamoDB)
	if f.Kind == onDynamoDB {
		m.Add(f.config().Validate())
	}
}

// ProfileFlags say how much the stores have to replicate.
type ProfileFlags struct {
	Profile string `name:"profile" group:"stores" default:"production" help:"production (3 replicas of each partition, 2 of them in sync) or single (one machine, 1 replica)."`
}

const singleMachine = "single"

// LogFlags say what is logged, and how. Lines go to standard error.
type LogFlags struct {
	Level  string `name:"log-level" group:"reporting" default:"info" help:"Lowest level that is logged: debug, info, warn or error."`
	Format string `name:"log-format" group:"reporting" default:"auto" help:"Format of the log: json, pretty (for people), or auto: pretty on a terminal, else json."`
}

func (f LogFlags) check(m *settings.Mistakes) { m.Add(telemetry.CheckLog(f.Level, f.Format)) }

// DeadlineFlags say how long a server may take to accept a trade.
type DeadlineFlags struct {
	AcceptDeadline time.Duration `name:"accept-deadline" group:"tuning" default:"3s" help:"Longest time from the arrival of a trade to its 202. After it the answer is 503, with the request ID to poll. 'migrate --new-generation' waits as long for servers that still run. It is the same for every process."`
}

func (f DeadlineFlags) check(m *settings.Mistakes) {
	settings.Between(m, "--accept-deadline", f.AcceptDeadline, time.Millisecond, time.Hour)
}

// PromiseFlags say how long a trade may be under way before it counts as lost. They are the same for every role: a
// worker with shorter times than the servers could close a request that is then answered 202 (rule R2). The database
// holds them, and every role compares its own (rule T12).
type PromiseFlags struct {
	DeadlineFlags   `embed:""`
	DeliveryTimeout time.Duration `name:"delivery-timeout" group:"tuning" default:"10s" help:"How long a server tries to write one record to Kafka. It is the same for every process."`
	OrphanAfter     time.Duration `name:"orphan-after" group:"tuning" default:"60s" help:"How long a request stays PENDING before a worker checks whether its trade is in the topic. At least twice the sum of --accept-deadline and --delivery-timeout. It is the same for every process."`
}

func (f PromiseFlags) check(m *settings.Mistakes) {
	f.DeadlineFlags.check(m)
	// The Kafka client takes no less than a second.
	settings.Between(m, "--delivery-timeout", f.DeliveryTimeout, time.Second, time.Hour)
	if f.OrphanAfter <= 0 || f.OrphanAfter > day {
		settings.Between(m, "--orphan-after", f.OrphanAfter, time.Millisecond, day)
		return
	}
	m.Add(worker.CheckOrphanAfter(f.OrphanAfter, f.AcceptDeadline, f.DeliveryTimeout))
}

const day = 24 * time.Hour

// ProcessFlags say how a role checks its stores, and how it stops.
type ProcessFlags struct {
	CheckInterval time.Duration `name:"check-interval" group:"tuning" default:"30s" help:"Time between two checks of the topic, the database and the request store. A check that fails stops the process."`
	DrainTimeout  time.Duration `name:"drain-timeout" group:"tuning" default:"30s" help:"Time limit for a drain, after SIGTERM or SIGINT. Work that is not finished then is cut off. A worker gives a third each to the batch in hand, to the last outcomes and to leaving its group."`
}

func (f ProcessFlags) check(m *settings.Mistakes) {
	settings.Between(m, "--check-interval", f.CheckInterval, time.Second, time.Hour)
	settings.Between(m, "--drain-timeout", f.DrainTimeout, time.Second, time.Hour)
}
