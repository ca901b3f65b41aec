package app

import (
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
)

const goodURL = "postgres://trader:s3cret@127.0.0.1:5432/tradestore"

// defaults returns the settings of T as the command line makes them of these arguments.
func defaults[T any](t *testing.T, args ...string) *T {
	t.Helper()
	var grammar struct {
		Config T `embed:""`
	}
	parser, err := kong.New(&grammar, kong.ExplicitGroups(nil))
	require.NoError(t, err)
	_, err = parser.Parse(append([]string{"--database-url", goodURL}, args...))
	require.NoError(t, err)
	return &grammar.Config
}

func TestServerSettings(t *testing.T) {
	require.NoError(t, defaults[ServerConfig](t).Validate(), "the defaults are good but for the database URL")
	f := func(change func(*ServerConfig), want ...string) {
		t.Helper()
		c := defaults[ServerConfig](t)
		change(c)
		requireMistakes(t, c.Validate(), want)
	}
	f(func(c *ServerConfig) { c.Listen = "" }, "--listen:")
	f(func(c *ServerConfig) { c.Listen = "8000" }, "--listen:")
	f(func(c *ServerConfig) { c.Listen = "127.0.0.1:65536" }, "--listen:")
	f(func(c *ServerConfig) { c.Listen = "127.0.0.1:http" }, "--listen:")
	f(func(c *ServerConfig) { c.Listen = ":0" })
	f(func(c *ServerConfig) { c.Listen = "[::1]:8000" })
	f(func(c *ServerConfig) { c.Kafka.Brokers = nil }, "--kafka-brokers:")
	f(func(c *ServerConfig) { c.Kafka.Brokers = []string{"kafka-1:9092", "kafka-2"} }, `--kafka-brokers: "kafka-2"`)
	f(func(c *ServerConfig) { c.Kafka.Brokers = []string{":9092"} }, "--kafka-brokers:")
	f(func(c *ServerConfig) { c.Kafka.Topic = "" }, "--topic:")
	f(func(c *ServerConfig) { c.Kafka.Topic = ".." }, "--topic:")
	f(func(c *ServerConfig) { c.Kafka.Topic = "a topic" }, "--topic:")
	f(func(c *ServerConfig) { c.Kafka.Topic = strings.Repeat("t", 249) })
	f(func(c *ServerConfig) { c.Kafka.Topic = strings.Repeat("t", 250) }, "--topic:")
	f(func(c *ServerConfig) { c.Kafka.Partitions = 0 }, "--partitions: 0 is not between 1 and 1000")
	f(func(c *ServerConfig) { c.Kafka.Partitions = 1001 }, "--partitions:")
	f(func(c *ServerConfig) { c.Database.URL = "" }, "--database-url: required")
	f(func(c *ServerConfig) { c.Database.URL = "mysql://host/db" }, "--database-url: not a URL")
	f(func(c *ServerConfig) { c.Database.URL = "host=db password=s3cret" }, "--database-url: not a URL")
	f(func(c *ServerConfig) { c.Database.URL = "postgres://u:s3cret%zz@host/db" }, "--database-url: not a URL")
	f(func(c *ServerConfig) { c.RequestStore.Kind = "redis" }, `--request-store: "redis" is not one of postgres, dynamodb`)
	f(func(c *ServerConfig) { c.RequestStore.Kind = "dynamodb" })
	f(func(c *ServerConfig) { c.RequestStore.Kind, c.RequestStore.Table = "dynamodb", "" }, "--dynamodb-table:")
	f(func(c *ServerConfig) { c.RequestStore.Kind, c.RequestStore.Endpoint = "dynamodb", "localhost:8002" },
		"--dynamodb-endpoint:")
	f(func(c *ServerConfig) { c.Profile.Profile = "laptop" }, "--profile:")
	f(func(c *ServerConfig) { c.Profile.Profile = "single" })
	f(func(c *ServerConfig) { c.Log.Level = "loud" }, "--log-level:")
	f(func(c *ServerConfig) { c.Log.Format = "xml" }, "--log-format:")
	f(func(c *ServerConfig) { c.Server.Flushes = 0 }, "--flushes: 0 is not between 1 and 256")
	f(func(c *ServerConfig) { c.Server.QueueBytes = 1 }, "--queue-bytes: 1 is not between 18432 and 68719476736")
	f(func(c *ServerConfig) { c.Server.MaxBodyBytes = 1 }, "--max-body-bytes: 1 is not between 256 and 524288")
	f(func(c *ServerConfig) { c.Server.MaxBodyBytes = 1 << 20 }, "--max-body-bytes:")
	f(func(c *ServerConfig) { c.Server.ReadConns = -1 }, "--read-conns:")
	f(func(c *ServerConfig) { c.Promise.DeliveryTimeout = time.Millisecond }, "--delivery-timeout:")
	f(func(c *ServerConfig) { c.Promise.DeliveryTimeout = time.Minute },
		"--orphan-after: 1m0s is less than 2m6s, twice the sum of --accept-deadline 3s and --delivery-timeout 1m0s")
	f(func(c *ServerConfig) { c.Server.Compression = "rar" }, "--kafka-compression:")
	f(func(c *ServerConfig) { c.Server.DrainDelay = 25 * time.Second },
		"--drain-timeout: 30s is not more than the sum of --drain-delay 25s and --read-timeout 5s")
	f(func(c *ServerConfig) { c.Server.ReadTimeout = 30 * time.Second },
		"--drain-timeout: 30s is not more than the sum of --drain-delay 0s and --read-timeout 30s")
	f(func(c *ServerConfig) { c.Listen, c.Kafka.Topic, c.Database.URL = "x", "", "" },
		"--listen:", "--topic:", "--database-url:")
}

func TestWorkerSettings(t *testing.T) {
	require.NoError(t, defaults[WorkerConfig](t).Validate())
	f := func(change func(*WorkerConfig), want ...string) {
		t.Helper()
		c := defaults[WorkerConfig](t)
		change(c)
		requireMistakes(t, c.Validate(), want)
	}
	f(func(c *WorkerConfig) { c.Listen = "x" }, "--listen:")
	f(func(c *WorkerConfig) { c.Worker.Group = "" }, "--kafka-group:")
	f(func(c *WorkerConfig) { c.Worker.Lanes = 0 }, "--lanes: 0 is not between 1 and 64")
	f(func(c *WorkerConfig) { c.Worker.MaxPollRecords = 0 }, "--max-poll-records:")
	f(func(c *WorkerConfig) { c.Worker.TransactionLimit = time.Minute },
		"--transaction-limit: 1m0s is not less than the 1m0s that workers have to give up partitions")
	f(func(c *WorkerConfig) { c.Worker.OutcomeRetention = time.Hour },
		"--outcome-retention: 1h0m0s is not between 24h0m0s")
	f(func(c *WorkerConfig) { c.Promise.OrphanAfter = 26 * time.Second })
	f(func(c *WorkerConfig) { c.Promise.OrphanAfter = 26*time.Second - 1 },
		"--orphan-after: 25.999999999s is less than 26s, twice the sum of --accept-deadline 3s and --delivery-timeout 10s")
	f(func(c *WorkerConfig) { c.Promise.OrphanAfter = 0 }, "--orphan-after: 0s is not between")
	f(func(c *WorkerConfig) { c.Worker.OrphanInterval = 0 }, "--orphan-interval:")
	f(func(c *WorkerConfig) { c.Process.DrainTimeout = 0 }, "--drain-timeout:")
	f(func(c *WorkerConfig) { c.Process.CheckInterval = 0 }, "--check-interval: 0s is not between 1s and 1h0m0s")
	f(func(c *WorkerConfig) { c.Kafka.Topic, c.Database.URL, c.Profile.Profile, c.Log.Level = "", "", "", "" },
		"--topic:", "--database-url:", "--profile:", "--log-level:")
}

func TestMigrateSettings(t *testing.T) {
	require.NoError(t, defaults[MigrateConfig](t).Validate())
	f := func(change func(*MigrateConfig), want ...string) {
		t.Helper()
		c := defaults[MigrateConfig](t)
		change(c)
		requireMistakes(t, c.Validate(), want)
	}
	f(func(c *MigrateConfig) { c.TopicRetention = time.Second }, "--topic-retention:")
	f(func(c *MigrateConfig) { c.Wait = 0 }, "--wait: 0s is not between 100ms")
	f(func(c *MigrateConfig) { c.Promise.AcceptDeadline = 0 }, "--accept-deadline: 0s is not between 1ms")
	f(func(c *MigrateConfig) { c.OutcomeRetention = time.Hour }, "--outcome-retention:")
	f(func(c *MigrateConfig) { c.Set = "orphan-after=26s" })
	f(func(c *MigrateConfig) { c.Set = "orphan-after=20s" },
		"--orphan-after: 20s is less than 26s, twice the sum of --accept-deadline 3s and --delivery-timeout 10s")
	f(func(c *MigrateConfig) { c.Set = "orphan-after" }, `--set: "orphan-after" is not NAME=VALUE`)
	f(func(c *MigrateConfig) { c.Set = "orphan-after=soon" }, `--set: "soon" is not a duration like 90s`)
	f(func(c *MigrateConfig) { c.Set = "request-store=redis" }, `--request-store: "redis" is not one of`)
	f(func(c *MigrateConfig) { c.Set = "partitions=24" }, "--set: the partitions of a topic never change")
	f(func(c *MigrateConfig) { c.Set = "lanes=3" }, `--set: "lanes" is not a setting that every process must agree on`)
	f(func(c *MigrateConfig) { c.Set, c.Retire = "orphan-after=26s", "orphan-after" }, "--set: one call takes only one")
	f(func(c *MigrateConfig) { c.NewGeneration, c.Retire = true, "orphan-after" }, "--set: one call takes only one")
	f(func(c *MigrateConfig) { c.Kafka.Brokers, c.Database.URL = nil, "" }, "--kafka-brokers:", "--database-url:")
}

func TestCheckSettings(t *testing.T) {
	require.NoError(t, defaults[CheckConfig](t).Validate())
	f := func(change func(*CheckConfig), want ...string) {
		t.Helper()
		c := defaults[CheckConfig](t)
		change(c)
		requireMistakes(t, c.Validate(), want)
	}
	f(func(c *CheckConfig) { c.OutcomeRetention, c.Timeout = time.Hour, 0 },
		"--outcome-retention:", "--timeout: 0s is not between 100ms")
	f(func(c *CheckConfig) { c.Kafka.Topic, c.Database.URL, c.Profile.Profile = "", "", "" },
		"--topic:", "--database-url:", "--profile:")
}

// requireMistakes demands exactly one line per text, in order, and that no line shows the password.
func requireMistakes(t *testing.T, err error, want []string) {
	t.Helper()
	if len(want) == 0 {
		require.NoError(t, err)
		return
	}
	require.Error(t, err)
	require.NotContains(t, err.Error(), "s3cret")
	lines := strings.Split(err.Error(), "\n")
	require.Len(t, lines, len(want), err.Error())
	for i, text := range want {
		require.Contains(t, lines[i], text)
	}
}

func TestMask(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		require.Equal(t, want, Mask(in))
	}
	f("", "")
	f("trades-inbound", "trades-inbound")
	f("127.0.0.1:8000", "127.0.0.1:8000")
	f("postgres://trader@db:5432/trades", "postgres://trader@db:5432/trades")
	f("postgres://trader:s3cret@db:5432/trades", "postgres://trader:xxxxx@db:5432/trades")
	f("postgres://trader:s%40cret@db/trades?sslmode=require", "postgres://trader:xxxxx@db/trades?sslmode=require")
	f("postgres://db/trades?user=trader&password=s3cret", "postgres://db/trades?password=xxxxx&user=trader")
	f("postgres://db/trades?sslpassword=s3cret", "postgres://db/trades?sslpassword=xxxxx")
	f("postgres://trader:s3cret%zz@db/trades", "xxxxx")
	f("postgres://db/trades?password=s3%zzcret", "xxxxx")
	f("host=db user=trader password=s3cret", "xxxxx")
	f("HOST=db PASSWORD=s3cret", "xxxxx")
}
