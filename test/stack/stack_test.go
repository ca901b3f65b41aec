package stack_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/test/stack"
)

func TestMain(m *testing.M) { stack.Main(m) }

func TestDatabasesAreApart(t *testing.T) {
	count := func(url string) (n int) {
		conn, err := pgx.Connect(t.Context(), url)
		require.NoError(t, err)
		defer conn.Close(t.Context())
		_, err = conn.Exec(t.Context(), "CREATE TABLE IF NOT EXISTS a (b int)")
		require.NoError(t, err)
		_, err = conn.Exec(t.Context(), "INSERT INTO a VALUES (1)")
		require.NoError(t, err)
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM a").Scan(&n))
		return n
	}
	one, two := stack.Database(t), stack.Database(t)
	require.Equal(t, 1, count(one))
	require.Equal(t, 2, count(one))
	require.Equal(t, 1, count(two))
}

func TestDatabaseIsDroppedWithItsSessions(t *testing.T) {
	var url string
	t.Run("user", func(t *testing.T) {
		url = stack.Database(t)
		_, err := pgx.Connect(context.Background(), url) // left open
		require.NoError(t, err)
	})
	_, err := pgx.Connect(t.Context(), url)
	require.ErrorContains(t, err, "does not exist")
}

func TestDatabaseSettings(t *testing.T) {
	conn, err := pgx.Connect(t.Context(), stack.Database(t))
	require.NoError(t, err)
	defer conn.Close(t.Context())
	f := func(setting, want string) {
		t.Helper()
		var got string
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT current_setting($1)", setting).Scan(&got))
		require.Equal(t, want, got, setting)
	}
	f("fsync", "on")
	f("synchronous_commit", "on")
	f("full_page_writes", "on")
	f("server_encoding", "UTF8")
	f("TimeZone", "UTC")
	f("lc_messages", "C")
	f("max_connections", "200")
	f("listen_addresses", "127.0.0.1")
	f("password_encryption", "scram-sha-256")
}

func TestOwnPostgresIsAnotherServer(t *testing.T) {
	shared := stack.Database(t)
	own := stack.OwnPostgres(t)
	require.NoError(t, own.State())
	require.NotContains(t, shared, own.URL())
	conn, err := pgx.Connect(t.Context(), own.URL())
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
}

func TestKafka(t *testing.T) {
	client, err := kgo.NewClient(kgo.SeedBrokers(stack.Kafka(t)...))
	require.NoError(t, err)
	defer client.Close()
	require.NoError(t, client.Ping(t.Context()))
}
