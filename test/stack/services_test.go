package stack_test

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/test/stack"
	"tradestore/test/stack/services"
)

func TestApacheKafkaOfATestIsNotTheSharedOne(t *testing.T) {
	shared := stack.SharedApacheKafka(t)
	require.Equal(t, shared, stack.SharedApacheKafka(t))
	var own *services.Kafka
	t.Run("own", func(t *testing.T) {
		own = stack.ApacheKafka(t, func(cfg *services.KafkaConfig) { cfg.HeapMiB = 256 })
		require.NotEqual(t, shared, own.Addrs())
		require.NotZero(t, own.PID())
	})
	require.Zero(t, own.PID(), "it outlived its test")
	client, err := kgo.NewClient(kgo.SeedBrokers(shared...))
	require.NoError(t, err)
	defer client.Close()
	require.NoError(t, client.Ping(t.Context()))
}

func TestDynamoDBOfATestIsNotTheSharedOne(t *testing.T) {
	shared := stack.DynamoDB(t)
	require.Equal(t, shared, stack.DynamoDB(t))
	var own *services.DynamoDB
	t.Run("own", func(t *testing.T) {
		own = stack.OwnDynamoDB(t, func(cfg *services.DynamoDBConfig) { cfg.HeapMiB = 256 })
		require.NotEqual(t, shared, own.Endpoint())
	})
	require.Zero(t, own.PID(), "it outlived its test")
	_, err := net.Dial("tcp", strings.TrimPrefix(own.Endpoint(), "http://"))
	require.Error(t, err)
	resp, err := http.Get(shared)
	require.NoError(t, err)
	resp.Body.Close()
}

// TestOnALaptop runs a test of this package in a process that has no Java.
func TestOnALaptop(t *testing.T) {
	f := func(ci, want string) {
		t.Helper()
		cmd := exec.Command(os.Args[0], "-test.v", "-test.run", "^TestDynamoDBOfATestIsNotTheSharedOne$")
		cmd.Env = append(os.Environ(), "PATH=", "JAVA_HOME=", "TRADESTORE_TEST_DYNAMODB_URL=", "CI="+ci)
		out, err := cmd.CombinedOutput()
		require.Equal(t, ci == "true", err != nil)
		require.Contains(t, string(out), want)
		require.Contains(t, string(out), "something is missing: no Java 17 found")
	}
	f("", "--- SKIP")
	f("true", "--- FAIL")
}
