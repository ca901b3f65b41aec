package loadtest

import (
	"net"
	"os"
	"runtime"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/postgres"
	"tradestore/test/stack"
)

// The lag is what Kafka has and PostgreSQL's positions have not reached, or the offsets of the group.
func TestLag(t *testing.T) {
	const topic, group = "trades", "workers"
	brokers, database := stack.Kafka(t), stack.Database(t)
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.DefaultProduceTopic(topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	defer client.Close()
	admin := kadm.NewClient(client)
	_, err = admin.CreateTopic(t.Context(), 2, 1, nil, topic)
	require.NoError(t, err)
	for i := range 7 {
		require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{Partition: int32(i % 2),
			Value: []byte("x")}).FirstErr())
	}
	require.NoError(t, postgres.Migrate(t.Context(), database))
	conn, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), `INSERT INTO ingest_offsets
		(topic_id, partition, generation, next_offset, leader_epoch, topic) VALUES
		('00000000-0000-0000-0000-000000000001', 0, 1, 3, 0, $1),
		('00000000-0000-0000-0000-000000000001', 1, 1, 1, 0, $1)`, topic)
	require.NoError(t, err)

	f := func(databaseURL string, want float64) {
		t.Helper()
		l, err := openLag(t.Context(), brokers, topic, group, databaseURL)
		require.NoError(t, err)
		defer l.close()
		readings, err := l.source().Read(t.Context())
		require.NoError(t, err)
		require.Equal(t, []Reading{{Name: lagSeries, Group: groupLag, Unit: "records", Value: want}}, readings)
	}
	f(database, 3) // of 4 and 3 records, 3 and 1 are applied
	offsets := make(kadm.Offsets)
	offsets.AddOffset(topic, 0, 4, -1)
	offsets.AddOffset(topic, 1, 2, -1)
	require.NoError(t, admin.CommitAllOffsets(t.Context(), group, offsets))
	f("", 1)
}

// A PostgreSQL on this machine is found by the address that it was given with, and by a role's connection to it.
func TestProcessesOfThisMachine(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("other processes are measured on Linux alone")
	}
	if os.Getenv("TRADESTORE_TEST_DATABASE_URL") != "" {
		t.Skip("TRADESTORE_TEST_DATABASE_URL names a server that may be elsewhere, or another user's")
	}
	cfg, err := pgx.ParseConfig(stack.Database(t))
	require.NoError(t, err)
	role, err := net.Listen("tcp", "127.0.0.1:0") // this process is the server
	require.NoError(t, err)
	defer role.Close()
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), "SELECT 1")
	require.NoError(t, err)

	f := func(p endpoints) {
		t.Helper()
		sources := localSources(p)
		require.Len(t, sources, 2)
		machine, err := sources[0].Read(t.Context())
		require.NoError(t, err)
		require.Equal(t, machineCPU, machine[0].Name)
		require.Positive(t, machine[0].Value)
		readings, err := sources[1].Read(t.Context())
		require.NoError(t, err)
		values := map[string]float64{}
		for _, r := range readings {
			values[r.Name] = r.Value
		}
		require.Contains(t, values, "PostgreSQL CPU")
		require.Greater(t, values["PostgreSQL memory"], 1e6)
		require.NotContains(t, values, "server CPU", "that one has metrics of its own")
	}
	f(endpoints{roles: []string{role.Addr().String()}})
	address := net.JoinHostPort(cfg.Host, strconv.Itoa(int(cfg.Port)))
	f(endpoints{stores: []store{{"PostgreSQL", []string{address}}}})
}
