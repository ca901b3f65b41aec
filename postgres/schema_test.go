package postgres

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"tradestore/migrations"
	"tradestore/teststack"
	"tradestore/trade"
)

func TestMigrateTwice(t *testing.T) {
	url := teststack.Database(t)
	pool := openPool(t, url, "reads", Open)

	err := CheckSchema(t.Context(), pool)
	require.ErrorContains(t, err, "run tradestore migrate", "an empty database")
	require.Equal(t, trade.Broken, trade.ClassOf(err))

	require.NoError(t, Migrate(t.Context(), url))
	require.NoError(t, CheckSchema(t.Context(), pool))
	require.NoError(t, Migrate(t.Context(), url))
	require.NoError(t, CheckSchema(t.Context(), pool))
}

func TestMigrateInParallel(t *testing.T) {
	url := teststack.Database(t)
	var all sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		all.Go(func() { errs[i] = Migrate(t.Context(), url) })
	}
	all.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	require.NoError(t, CheckSchema(t.Context(), openPool(t, url, "reads", Open)))
}

func TestSchemaOfAnotherVersion(t *testing.T) {
	d := newDatabase(t)

	d.exec(t, "UPDATE schema_version SET version = version + 1")
	err := CheckSchema(t.Context(), d.reads)
	require.ErrorContains(t, err, "newer than")
	require.Equal(t, trade.Broken, trade.ClassOf(err))
	require.ErrorContains(t, Migrate(t.Context(), d.url), "newer than")

	d.exec(t, "UPDATE schema_version SET version = $1", migrations.Version-1)
	err = CheckSchema(t.Context(), d.reads)
	require.ErrorContains(t, err, "run tradestore migrate")
	require.Equal(t, trade.Broken, trade.ClassOf(err))

	d.exec(t, "DELETE FROM schema_version")
	require.ErrorContains(t, CheckSchema(t.Context(), d.reads), "run tradestore migrate")
}

func TestCheckSchemaOfADatabaseThatIsDown(t *testing.T) {
	pool := openPool(t, "postgres://nobody@127.0.0.1:1/none", "reads", Open)
	err := CheckSchema(t.Context(), pool)
	require.Error(t, err)
	require.Equal(t, trade.Unavailable, trade.ClassOf(err), "an outage is no wrong schema")
	require.ErrorContains(t, Migrate(t.Context(), "postgres://nobody@127.0.0.1:1/none"), "--database-url")
}

func TestAddTopic(t *testing.T) {
	d := newDatabase(t)
	add := func(topic string, id trade.TopicID, partitions int) error {
		return AddTopic(t.Context(), d.reads, topic, id, partitions)
	}
	d.exec(t, "UPDATE ingest_offsets SET next_offset = 7")

	require.NoError(t, add(testTopic, testTopicID, testPartitions), "the same call again")
	require.Equal(t, testPartitions*7, d.count(t, "SELECT sum(next_offset) FROM ingest_offsets"), "positions are kept")
	require.Equal(t, testPartitions, d.count(t, "SELECT count(*) FROM settle_cursor"))

	f := func(topic string, id trade.TopicID, partitions int, want string) {
		t.Helper()
		err := add(topic, id, partitions)
		require.ErrorContains(t, err, want)
		require.Equal(t, trade.Broken, trade.ClassOf(err))
	}
	f(testTopic, trade.TopicID{9}, testPartitions, "created anew")
	f(testTopic, testTopicID, testPartitions+1, "--partitions")
	f("another", testTopicID, testPartitions, "--topic")
}

func TestAddTopicInParallel(t *testing.T) {
	url := teststack.Database(t)
	require.NoError(t, Migrate(t.Context(), url))
	pool := openPool(t, url, "reads", Open)
	var all sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		all.Go(func() { errs[i] = AddTopic(t.Context(), pool, testTopic, testTopicID, 12) })
	}
	all.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
}

func TestPositions(t *testing.T) {
	d := newDatabase(t)
	store := NewStore(d.writer, StoreConfig{Topic: testTopic})

	got, err := store.Positions(t.Context())
	require.NoError(t, err)
	require.Len(t, got, testPartitions)
	require.Equal(t, trade.Position{TopicID: testTopicID, Generation: 1, Partition: 3, LeaderEpoch: -1}, got[3])

	d.exec(t, `INSERT INTO ingest_offsets (topic_id, partition, generation, next_offset, leader_epoch, topic)
		VALUES (gen_random_uuid(), 0, 2, 5, 1, $1)`, testTopic)
	got, err = store.Positions(t.Context())
	require.NoError(t, err)
	require.Len(t, got, 1, "the highest generation alone")
	require.EqualValues(t, 5, got[0].NextOffset)

	_, err = NewStore(d.writer, StoreConfig{Topic: "unknown"}).Positions(t.Context())
	require.ErrorContains(t, err, "run tradestore migrate")
	require.Equal(t, trade.Broken, trade.ClassOf(err))
}
