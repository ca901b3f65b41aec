package embedded

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func client(t *testing.T, broker string, opts ...kgo.Opt) (*kgo.Client, *kadm.Client) {
	t.Helper()
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(broker))...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c, kadm.NewClient(c)
}

func startKafka(t *testing.T, cfg KafkaConfig) *Kafka {
	t.Helper()
	k, err := StartKafka(cfg)
	require.NoError(t, err)
	t.Cleanup(k.Close)
	return k
}

// fill makes a topic with three records and a group that has read one, and returns the topic's id.
func fill(t *testing.T, broker string) kadm.TopicID {
	t.Helper()
	c, admin := client(t, broker)
	_, err := admin.CreateTopic(t.Context(), 1, -1, nil, "kept")
	require.NoError(t, err)
	for _, v := range []string{"a", "b", "c"} {
		require.NoError(t, c.ProduceSync(t.Context(), &kgo.Record{Topic: "kept", Value: []byte(v)}).FirstErr())
	}
	var committed kadm.Offsets
	committed.AddOffset("kept", 0, 1, -1)
	_, err = admin.CommitOffsets(t.Context(), "readers", committed)
	require.NoError(t, err)
	return topicID(t, admin)
}

func topicID(t *testing.T, admin *kadm.Client) kadm.TopicID {
	t.Helper()
	topics, err := admin.ListTopics(t.Context(), "kept")
	require.NoError(t, err)
	require.NoError(t, topics["kept"].Err)
	return topics["kept"].ID
}

// verify demands what fill left, and that a new record goes behind it.
func verify(t *testing.T, broker string, id kadm.TopicID) {
	t.Helper()
	c, admin := client(t, broker,
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"kept": {0: kgo.NewOffset().AtStart()}}))
	require.Equal(t, id, topicID(t, admin))
	offsets, err := admin.FetchOffsets(t.Context(), "readers")
	require.NoError(t, err)
	at, ok := offsets.Lookup("kept", 0)
	require.True(t, ok)
	require.EqualValues(t, 1, at.At)
	rec := kgo.Record{Topic: "kept", Value: []byte("d")}
	require.NoError(t, c.ProduceSync(t.Context(), &rec).FirstErr())
	require.EqualValues(t, 3, rec.Offset)
	var read strings.Builder
	for read.Len() < 4 {
		fetches := c.PollFetches(t.Context())
		require.NoError(t, fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) { read.Write(r.Value) })
	}
	require.Equal(t, "abcd", read.String())
}

func TestKafkaKeepsWhatItAcknowledged(t *testing.T) {
	dir := t.TempDir()
	k := startKafka(t, KafkaConfig{Dir: dir})
	addrs := k.Addrs()
	id := fill(t, addrs[0])
	k.Close()
	k = startKafka(t, KafkaConfig{Dir: dir})
	require.Equal(t, addrs, k.Addrs(), "the port is kept")
	verify(t, k.Addrs()[0], id)
}

func TestKafkaKeepsItOverAKill(t *testing.T) {
	dir := openDir(t)
	mustStart(t, filepath.Join(dir, "postgres")).Stop()
	h := startHolder(t, dir)
	id := fill(t, h.broker)
	h.kill(t)
	verify(t, startKafka(t, KafkaConfig{Dir: filepath.Join(dir, "kafka")}).Addrs()[0], id)
}

func TestKafkaMakesNoTopicsByUse(t *testing.T) {
	k := startKafka(t, KafkaConfig{})
	c, _ := client(t, k.Addrs()[0], kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(0))
	err := c.ProduceSync(t.Context(), &kgo.Record{Topic: "typo", Value: []byte("x")}).FirstErr()
	require.ErrorIs(t, err, kerr.UnknownTopicOrPartition)
}

// Old records go, the newest stay, and the offsets go on: also after a restart.
func TestKafkaRetention(t *testing.T) {
	dir := t.TempDir()
	value := []byte(strings.Repeat("x", 500))
	k := startKafka(t, KafkaConfig{Dir: dir, RetentionBytes: 1000})
	c, admin := client(t, k.Addrs()[0], kgo.ProducerBatchCompression(kgo.NoCompression()))
	_, err := admin.CreateTopic(t.Context(), 1, -1, nil, "kept")
	require.NoError(t, err)
	for range 10 {
		require.NoError(t, c.ProduceSync(t.Context(), &kgo.Record{Topic: "kept", Value: value}).FirstErr())
	}
	k.cluster.ApplyRetention()
	bounds := func(admin *kadm.Client) (start, end int64) {
		s, err := admin.ListStartOffsets(t.Context(), "kept")
		require.NoError(t, err)
		e, err := admin.ListEndOffsets(t.Context(), "kept")
		require.NoError(t, err)
		return s["kept"][0].Offset, e["kept"][0].Offset
	}
	start, end := bounds(admin)
	require.EqualValues(t, 9, start)
	require.EqualValues(t, 10, end)
	k.Close()
	_, admin = client(t, startKafka(t, KafkaConfig{Dir: dir, RetentionBytes: 1000}).Addrs()[0])
	_, end = bounds(admin)
	require.EqualValues(t, 10, end)
}

func TestKafkaFolderCannotBeMade(t *testing.T) {
	_, err := StartKafka(KafkaConfig{Dir: "/proc/none"})
	require.ErrorContains(t, err, "cannot start the embedded broker")
}
