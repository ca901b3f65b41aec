package services

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/internal/proc"
)

// TestKafka is one broker's story, since each chapter takes seconds to begin.
func TestKafka(t *testing.T) {
	needJava(t)
	dir := filepath.Join(t.TempDir(), "broker")
	k, err := StartKafka(within(t),
		KafkaConfig{Dir: dir, Fsync: true, Settings: map[string]string{"message.max.bytes": "2000000"}})
	require.NoError(t, err)
	t.Cleanup(func() { k.Kill() })
	client, err := kgo.NewClient(kgo.SeedBrokers(k.Addrs()...), kgo.MetadataMinAge(100*time.Millisecond),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"kept": {0: kgo.NewOffset().AtStart()}}))
	require.NoError(t, err)
	defer client.Close()
	_, err = kadm.NewClient(client).CreateTopic(within(t), 1, 1, nil, "kept")
	require.NoError(t, err)
	write := func(value string) {
		t.Helper()
		require.NoError(t, client.ProduceSync(within(t), &kgo.Record{Topic: "kept", Value: []byte(value)}).FirstErr())
	}
	write("before the kill")
	assert.True(t, listens("127.0.0.1", k.Port()))
	assert.False(t, listens("127.0.0.2", k.Port()), "it listens on other addresses")
	assert.Contains(t, lines(t, filepath.Join(dir, "server.properties")), "log.flush.interval.messages=1")
	assert.Contains(t, lines(t, filepath.Join(dir, "server.properties")), "message.max.bytes=2000000")

	require.NoError(t, k.Pause())
	short, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	require.Error(t, hasLeaders(short, k.Addrs()), "a frozen broker answers")
	require.NoError(t, k.Resume())
	require.Eventually(t, func() bool { return hasLeaders(within(t), k.Addrs()) == nil }, time.Minute, readyPoll)

	pid, port := k.PID(), k.Port()
	require.True(t, alive(pid))
	require.ErrorContains(t, k.start(within(t)), "it runs already")
	k.Kill()
	<-k.Done()
	assert.False(t, alive(pid))
	assert.Zero(t, k.PID())
	assert.ErrorContains(t, k.Pause(), "cannot send")
	k.Kill() // harmless
	k.Stop()

	require.NoError(t, k.Restart(within(t)))
	assert.NotEqual(t, pid, k.PID())
	write("after the kill")
	require.NoError(t, k.Pause())
	pid = k.PID()
	k.Stop() // a frozen broker stops as well, and in order
	assert.False(t, alive(pid))
	assert.FileExists(t, filepath.Join(dir, "data", ".kafka_cleanshutdown"))

	k, err = StartKafka(within(t), KafkaConfig{Dir: dir})
	require.NoError(t, err)
	assert.Equal(t, port, k.Port())
	var got []string
	for ctx := within(t); len(got) < 2; {
		fetches := client.PollFetches(ctx)
		require.NoError(t, ctx.Err())
		fetches.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
	}
	assert.Equal(t, []string{"before the kill", "after the kill"}, got)

	_, err = StartKafka(within(t), KafkaConfig{Dir: filepath.Join(t.TempDir(), "second"), Port: port})
	require.ErrorIs(t, err, proc.ErrPortTaken)
}

func TestKafkaThatDoesNotStartSaysWhy(t *testing.T) {
	needJava(t)
	dir := t.TempDir()
	_, err := StartKafka(within(t), KafkaConfig{Dir: dir, Settings: map[string]string{"log.retention.ms": "soon"}})
	require.ErrorContains(t, err, "cannot make storage")
	require.ErrorContains(t, err, "log.retention.ms")
	require.NoDirExists(t, filepath.Join(dir, "data"))

	require.NoError(t, os.Mkdir(filepath.Join(dir, "data"), 0o700)) // storage that was never formatted
	_, err = StartKafka(within(t), KafkaConfig{Dir: dir})
	require.ErrorContains(t, err, "it ended by itself")
	require.ErrorContains(t, err, "meta.properties")
	require.ErrorContains(t, err, filepath.Join(dir, "kafka.log"))

	_, err = StartKafka(within(t), KafkaConfig{})
	require.ErrorContains(t, err, "no folder given")
}

func TestClusterIDIsNoFlag(t *testing.T) {
	for range 100 {
		require.Regexp(t, `^[A-Za-z0-9][A-Za-z0-9_-]{21}$`, clusterID())
	}
}
