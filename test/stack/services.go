package stack

import (
	"context"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tradestore/test/stack/services"
)

// Services to use instead of those that a test binary starts: brokers, host:port, separated by commas, and a URL. The
// brokers' group.min.session.timeout.ms must be no more than 3000.
const (
	brokersVar  = "TRADESTORE_TEST_KAFKA_BROKERS"
	dynamoDBVar = "TRADESTORE_TEST_DYNAMODB_URL"
)

var apacheKafka, dynamoDB shared

// ApacheKafka starts a broker for this test alone, so that the test may stop, kill or freeze it, and kills it at the
// end. change may alter its settings; a full-speed broker is for measuring. Where it can't run, for want of Java 17 or
// Maven, the test is skipped, and with CI=true fails.
func ApacheKafka(t testing.TB, change ...func(*services.KafkaConfig)) *services.Kafka {
	t.Helper()
	cfg := services.KafkaConfig{Dir: t.TempDir()}
	for _, f := range change {
		f(&cfg)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	broker, err := services.StartKafka(ctx, cfg)
	require(t, err)
	t.Cleanup(broker.Kill)
	return broker
}

// SharedApacheKafka returns the addresses of a broker that all tests of the binary share: they keep apart by the names
// of topics and groups. Where it can't run the test is skipped, and with CI=true fails.
func SharedApacheKafka(t testing.TB) []string {
	t.Helper()
	addrs := apacheKafka.get(t, brokersVar, func() (string, func(), error) {
		return scratch(func(ctx context.Context, dir string) (string, func(), error) {
			broker, err := services.StartKafka(ctx, services.KafkaConfig{Dir: dir})
			if err != nil {
				return "", nil, err
			}
			return strings.Join(broker.Addrs(), ","), broker.Kill, nil
		})
	})
	return strings.Split(addrs, ",")
}

// DynamoDB returns the endpoint of a DynamoDB Local, in memory, that all tests of the binary share: they keep apart by
// the names of tables. Any credentials and any region do. For benchmarks it gets as fast as it can. Where it can't run
// the test is skipped, and with CI=true fails.
func DynamoDB(t testing.TB) string {
	t.Helper()
	return dynamoDB.get(t, dynamoDBVar, func() (string, func(), error) {
		return scratch(func(ctx context.Context, dir string) (string, func(), error) {
			_, bench := t.(*testing.B)
			d, err := services.StartDynamoDB(ctx, services.DynamoDBConfig{Dir: dir, InMemory: true, FullSpeed: bench})
			if err != nil {
				return "", nil, err
			}
			return d.Endpoint(), d.Kill, nil
		})
	})
}

// OwnDynamoDB starts a DynamoDB Local with its tables on disk for this test alone, so that the test may stop, kill or
// freeze it, and kills it at the end. Where it can't run the test is skipped, and with CI=true fails.
func OwnDynamoDB(t testing.TB, change ...func(*services.DynamoDBConfig)) *services.DynamoDB {
	t.Helper()
	cfg := services.DynamoDBConfig{Dir: t.TempDir()}
	for _, f := range change {
		f(&cfg)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	d, err := services.StartDynamoDB(ctx, cfg)
	require(t, err)
	t.Cleanup(d.Kill)
	return d
}

// Prometheus starts a server for this test alone, on a folder of its own, and kills it at the end. Where it can't run,
// for want of Go or of a way to its modules, the test is skipped, and with CI=true fails.
func Prometheus(t testing.TB, cfg services.PrometheusConfig) *services.Prometheus {
	t.Helper()
	cfg.Dir = t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	server, err := services.StartPrometheus(ctx, cfg)
	require(t, err)
	t.Cleanup(server.Kill)
	return server
}

// Promtool runs the promtool of that server, such as ("test", "rules", "cases.yaml"), in the folder of the test, and
// returns what it says; err says that it does not end with 0. Where it can't run the test is skipped, and with CI=true
// fails.
func Promtool(t testing.TB, args ...string) (said string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	programs, err := services.FetchPrometheus(ctx, "")
	require(t, err)
	out, err := osexec.CommandContext(ctx, filepath.Join(programs, "promtool"), args...).CombinedOutput()
	return string(out), err
}

// scratch gives start a temporary folder. start returns the address and how to stop the service; the folder is then
// removed.
func scratch(start func(ctx context.Context, dir string) (string, func(), error)) (string, func(), error) {
	dir, err := os.MkdirTemp("", "tradestore-test-")
	if err != nil {
		return "", nil, err
	}
	remove := func() { _ = os.RemoveAll(dir) } // what stays is in the temporary folder
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	address, stop, err := start(ctx, dir)
	if err != nil {
		remove()
		return "", nil, err
	}
	return address, func() { stop(); remove() }, nil
}
