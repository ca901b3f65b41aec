package postgres

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"tradestore/internal/checks"
	"tradestore/migrations"
	"tradestore/test/stack"
	"tradestore/trade"
)

func TestMigrateTwice(t *testing.T) {
	t.Parallel()
	url := stack.Database(t)
	pool := openPool(t, url, "reads", Open)

	requireSchema(t, pool, checks.Failed, "none: run tradestore migrate")
	require.NoError(t, Migrate(t.Context(), url))
	requireSchema(t, pool, checks.OK, "")
	require.NoError(t, Migrate(t.Context(), url))
	requireSchema(t, pool, checks.OK, "")
}

func TestMigrateInParallel(t *testing.T) {
	t.Parallel()
	url := stack.Database(t)
	var all sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		all.Go(func() { errs[i] = Migrate(t.Context(), url) })
	}
	all.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	requireSchema(t, openPool(t, url, "reads", Open), checks.OK, "")
}

// A newer schema that works with this build is one to start on: the release before goes back to it after an upgrade.
func TestSchemaOfAnotherVersion(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	f := func(version, since int32, want checks.Status, seen string) {
		t.Helper()
		d.exec(t, "UPDATE schema_version SET version = $1", version)
		d.exec(t, "UPDATE schema_range SET compatible_since = $1", since)
		requireSchema(t, d.reads, want, seen)
		if version < migrations.Version {
			return
		}
		err := Migrate(t.Context(), d.url)
		if want == checks.OK {
			require.NoError(t, err)
			return
		}
		require.ErrorContains(t, err, "run a newer tradestore")
		require.Equal(t, trade.Broken, trade.ClassOf(err))
	}
	last := migrations.Version
	f(migrations.Oldest-1, 1, checks.Failed, "run tradestore migrate")
	f(migrations.Oldest, 1, checks.OK, "")
	f(last, 1, checks.OK, "")
	f(last, last, checks.OK, "")
	f(last+1, 1, checks.OK, "which works with builds of version 1 and newer")
	f(last+5, last, checks.OK, "")
	f(last+1, last+1, checks.Failed, "run a newer tradestore")
	f(last+5, last+2, checks.Failed, "run a newer tradestore")

	d.exec(t, "DELETE FROM schema_version")
	requireSchema(t, d.reads, checks.Failed, "run tradestore migrate")
}

func TestMigrateOfADatabaseThatIsDown(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, Migrate(t.Context(), unreachable), "--database-url")
}

func TestAddTopic(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	add := func(topic string, id trade.TopicID, partitions int) error {
		return AddTopic(t.Context(), d.reads, topic, id, partitions)
	}
	d.exec(t, "UPDATE ingest_offsets SET next_offset = 7")

	require.NoError(t, add(testTopic, testTopicID, testPartitions), "the same call again")
	require.Equal(t, testPartitions*7, d.count(t, "SELECT sum(next_offset) FROM ingest_offsets"), "positions are kept")
	require.Equal(t, testPartitions, d.count(t, "SELECT count(*) FROM projection_cursor"))

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
	t.Parallel()
	url := stack.Database(t)
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
	t.Parallel()
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
	require.ErrorContains(t, err, "use its --topic and --partitions")
	require.Equal(t, trade.Broken, trade.ClassOf(err))
}
