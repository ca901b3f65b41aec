package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/tern/v2/migrate"

	"tradestore/migrations"
	"tradestore/trade"
)

// Migrate brings the schema of the database at url to the version of this build. It is safe to repeat, and safe to run
// from several processes at once: one migrates, the others wait. A database that is ahead of this build is an error.
func Migrate(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("cannot connect to migrate the database (--database-url): %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	m, err := migrate.NewMigrator(ctx, conn, migrations.VersionTable)
	if err != nil {
		return fmt.Errorf("cannot read the schema version from %s: %w", migrations.VersionTable, err)
	}
	if err := m.LoadMigrations(migrations.FS); err != nil {
		return fmt.Errorf("cannot load the migrations of this build: %w", err)
	}
	if have, err := m.GetCurrentVersion(ctx); err != nil {
		return fmt.Errorf("cannot read the schema version: %w", err)
	} else if have > migrations.Version {
		return newerSchema(have)
	}
	if err := m.Migrate(ctx); err != nil {
		return fmt.Errorf("cannot migrate the schema to version %d: %w", migrations.Version, err)
	}
	return nil
}

func newerSchema(have int32) error {
	return trade.Classed(trade.Broken,
		"the schema has version %d, newer than version %d of this build: run a newer tradestore", have, migrations.Version)
}

// AddTopic makes the rows that a worker needs to follow a topic: a position and a settle cursor for each partition, at
// offset 0 in generation 1. The same call again changes nothing. Another id or partition count for a known topic, or
// another topic beside a known one, is an error of class Broken: offsets would start over or keys move, in silence.
func AddTopic(ctx context.Context, pool *pgxpool.Pool, topic string, id trade.TopicID, partitions int) error {
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		return addTopic(ctx, tx, topic, id, partitions)
	})
	if err != nil {
		return trade.Classed(classOf(err), "cannot add the positions of topic %q: %w", topic, err)
	}
	return nil
}

func addTopic(ctx context.Context, tx pgx.Tx, topic string, id trade.TopicID, partitions int) error {
	if _, err := tx.Exec(ctx, "LOCK TABLE ingest_offsets IN SHARE ROW EXCLUSIVE MODE"); err != nil {
		return err // the lock lets one caller at a time look and then insert
	}
	rows, err := tx.Query(ctx, `SELECT topic, topic_id, count(*) FROM ingest_offsets
		WHERE generation = (SELECT max(generation) FROM ingest_offsets) GROUP BY topic, topic_id`)
	if err != nil {
		return err
	}
	type known struct {
		Topic      string
		ID         trade.TopicID
		Partitions int
	}
	have, err := pgx.CollectRows(rows, pgx.RowToStructByPos[known])
	if err != nil {
		return err
	}
	want := known{topic, id, partitions}
	switch {
	case len(have) == 0:
	case have[0] == want:
		return nil
	case have[0].Topic != topic:
		return trade.Classed(trade.Broken, "the database follows topic %q, not %q: use another database, or the same --topic",
			have[0].Topic, topic)
	case have[0].ID != id:
		return trade.Classed(trade.Broken, "topic %q was created anew: its id is %x, the positions are those of %x",
			topic, id, have[0].ID)
	default:
		return trade.Classed(trade.Broken, "topic %q has %d partitions, the positions are those of %d (--partitions)",
			topic, partitions, have[0].Partitions)
	}
	if _, err := tx.Exec(ctx, `
		INSERT INTO ingest_offsets (topic_id, partition, generation, next_offset, leader_epoch, topic)
		SELECT $1, p, 1, 0, -1, $2 FROM generate_series(0, $3::integer - 1) AS p`, id, topic, partitions); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO settle_cursor (generation, partition, settled_offset)
		SELECT 1, p, 0 FROM generate_series(0, $1::integer - 1) AS p`, partitions)
	return err
}
