package cmd

import (
	"bytes"
	"encoding/json"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const goodURL = "postgres://trader:s3cret@127.0.0.1:1/tradestore"

// output runs the command in this process.
func output(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(args, &process{stdout: &out, stderr: &errs})
	return code, out.String(), errs.String()
}

func TestMistakesAreListedAtOnce(t *testing.T) {
	f := func(args string, want ...string) {
		t.Helper()
		code, stdout, stderr := output(strings.Fields(args)...)
		require.Equal(t, exitUsage, code)
		require.Empty(t, stdout)
		for _, text := range want {
			require.Contains(t, stderr, text)
		}
		require.Equal(t, len(want), strings.Count(strings.TrimSpace(stderr), "\n"), stderr)
	}
	f("", `expected one of "`)
	f("serve", `did you mean "server"?`)
	f("server --lissten x", "unknown flag --lissten", "tradestore server --help")
	f("server", "tradestore server: cannot use these settings:", "--database-url: required")
	f("server --lanes 1", "cannot use", "unknown flag --lanes")
	f("worker --lanes 0 --database-url "+goodURL, "cannot use", "--lanes: 0 is not between 1 and 64")
	f("worker --lanes two --drain-timeout soon --listen x", "cannot use",
		`--lanes: expected a valid 64 bit int but got "two"`, "--drain-timeout: expected duration", "--listen:",
		"--database-url:")
	f("migrate --wait 5 --topic a/b", "cannot use", "--wait: expected duration", "--topic:", "--database-url:")
	f("version --jason", "cannot use", "unknown flag --jason")
}

func TestSettingsComeFromTheEnvironment(t *testing.T) {
	t.Setenv("TRADESTORE_DATABASE_URL", goodURL)
	t.Setenv("TRADESTORE_KAFKA_BROKERS", "kafka-1:9092,kafka-2:9092")
	t.Setenv("TRADESTORE_DRAIN_DELAY", "5s")
	t.Setenv("TRADESTORE_LISTEN", "127.0.0.1:1")
	t.Setenv("TRADESTORE_LANES", "many") // wrong, but not a setting of this command
	t.Setenv("TRADESTORE_JSON", "true")  // not a setting at all
	selected, settings, err := Parse([]string{"server", "--listen", "127.0.0.1:2", "--drain-delay", "0s"}, &bytes.Buffer{},
		&bytes.Buffer{})
	require.NoError(t, err)
	config := selected.(*serverCommand).Config
	require.Equal(t, goodURL, config.Database.URL)
	require.Equal(t, []string{"kafka-1:9092", "kafka-2:9092"}, config.Kafka.Brokers)
	require.Equal(t, "127.0.0.1:2", config.Listen, "a flag wins over the environment")
	require.Zero(t, config.Server.DrainDelay, "even with a zero")

	require.Equal(t, "postgres://trader:xxxxx@127.0.0.1:1/tradestore", settings["database-url"], "secrets are masked")
	require.Equal(t, "kafka-1:9092,kafka-2:9092", settings["kafka-brokers"])
	require.Equal(t, "8192", settings["queue-items"])

	code, stdout, _ := output("version")
	require.Equal(t, exitDone, code)
	require.NotContains(t, stdout, "{")
	code, _, stderr := output("worker")
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, `--lanes: expected a valid 64 bit int but got "many"`)
}

// Every flag is shown with its variable and its default, and has a unit where it needs one.
func TestHelpTeaches(t *testing.T) {
	model, err := Model()
	require.NoError(t, err)
	for _, command := range model.Children {
		code, help, stderr := output(command.Name, "--help")
		require.Equal(t, exitDone, code)
		require.Empty(t, stderr)
		for _, flag := range command.Flags {
			shown := "--" + flag.Name
			if flag.Default != "" {
				shown += "="
			}
			require.Contains(t, help, shown)
			require.Contains(t, help, flag.Default, shown)
			require.NotEmpty(t, flag.Help, shown)
			for _, variable := range flag.Envs {
				require.Equal(t, "TRADESTORE_"+strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_")), variable)
				require.Contains(t, help, "$"+variable)
			}
			if strings.HasSuffix(flag.Name, "-bytes") {
				require.Contains(t, flag.Help, "bytes", shown)
			}
		}
	}
	f := func(command string, flags ...string) {
		t.Helper()
		_, help, _ := output(command, "--help")
		for _, flag := range flags {
			require.Contains(t, help, "--"+flag)
		}
	}
	stores := []string{"kafka-brokers=127.0.0.1:9092", `topic="trades-inbound"`, "partitions=12", "database-url=",
		"log-level", "log-format", `profile="production"`}
	f("server", append(stores, `listen="127.0.0.1:8000"`, `request-store="postgres"`, `dynamodb-table="trade-requests"`,
		"drain-timeout=30s")...)
	f("worker", append(stores, `listen="127.0.0.1:8001"`, `request-store="postgres"`, `dynamodb-table="trade-requests"`,
		"lanes=2")...)
	f("migrate", stores...)
	f("version", "json")

	code, help, _ := output("--help")
	require.Equal(t, exitDone, code)
	for _, text := range []string{"Exit codes: 0", "TRADESTORE_LISTEN", "GOMEMLIMIT", "SIGTERM", "server ", "worker ",
		"migrate ", "version "} {
		require.Contains(t, help, text)
	}
}

func TestVersion(t *testing.T) {
	code, text, _ := output("version")
	require.Equal(t, exitDone, code)
	require.Regexp(t, `^tradestore \S+\ncommit     \S+\ndate       \S+\ngo         `+runtime.Version()+`\n$`, text)

	code, text, _ = output("version", "--json")
	require.Equal(t, exitDone, code)
	var build map[string]string
	require.NoError(t, json.Unmarshal([]byte(text), &build))
	for _, field := range []string{"version", "commit", "date", "go"} {
		require.NotEmpty(t, build[field], field)
	}
}

func TestAnAddressInUseIsOneLineThatNamesTheFlag(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, taken.Close()) }()
	for _, name := range []string{"server", "worker"} {
		code, _, stderr := output(name, "--database-url", goodURL, "--listen", taken.Addr().String(), "--log-format", "json")
		require.Equal(t, exitFailed, code)
		lines := strings.Split(strings.TrimSpace(stderr), "\n")
		require.Contains(t, lines[len(lines)-1], "choose another with --listen")
		require.NotContains(t, stderr, "s3cret")
	}
}

func TestMigrateGivesUpOnADeadDatabase(t *testing.T) {
	code, _, stderr := output("migrate", "--database-url", goodURL, "--wait", "300ms", "--log-format", "json")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "waiting for PostgreSQL", "each try is a line")
	require.Contains(t, stderr, "tradestore: gave up waiting for PostgreSQL")
	require.Contains(t, stderr, "--wait 300ms")
	require.NotContains(t, stderr, "s3cret")
}
