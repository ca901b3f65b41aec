package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tradestore/trade"
)

// Generation is a topic that the database follows, or followed before, with its positions. Offsets start at 0 in each.
type Generation struct {
	Number    int32 // from 1
	Topic     string
	ID        trade.TopicID
	Positions []trade.Position // ascending by partition
}

// lockGenerations lets one caller at a time read and then insert. Workers wait for it too, with their next batch.
const lockGenerations = "LOCK TABLE ingest_offsets IN SHARE ROW EXCLUSIVE MODE"

// errNoGeneration has class Broken: a worker that starts before migrate must stop.
var errNoGeneration = trade.Classed(trade.Broken, "there are none yet: run tradestore migrate")

// newest returns the generation that is applied now. Errors: errNoGeneration.
func newest(ctx context.Context, db database) (Generation, error) {
	rows, err := db.Query(ctx, `
		SELECT topic, topic_id, generation, partition, next_offset, leader_epoch FROM ingest_offsets
		WHERE generation = (SELECT max(generation) FROM ingest_offsets) ORDER BY partition`)
	if err != nil {
		return Generation{}, err
	}
	var g Generation
	var p trade.Position
	columns := []any{&g.Topic, (*[16]byte)(&p.TopicID), &p.Generation, &p.Partition, &p.NextOffset, &p.LeaderEpoch}
	_, err = pgx.ForEachRow(rows, columns, func() error {
		g.Number, g.ID, g.Positions = p.Generation, p.TopicID, append(g.Positions, p)
		return nil
	})
	if err == nil && g.Number == 0 {
		err = errNoGeneration
	}
	return g, err
}

// insertGeneration inserts the positions and the cursors of a new topic, at offset 0. No decision gets an earlier time
// than those of the generations before.
func insertGeneration(
	ctx context.Context, tx pgx.Tx, number int32, topic string, id trade.TopicID, partitions int,
) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO ingest_offsets (topic_id, partition, generation, next_offset, leader_epoch, topic, decided_at)
		SELECT $1, p, $2, 0, -1, $3, (SELECT max(decided_at) FROM ingest_offsets)
		FROM generate_series(0, $4::integer - 1) AS p`, id, number, topic, partitions)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO projection_cursor (generation, partition, projected_offset)
		SELECT $1, p, 0 FROM generate_series(0, $2::integer - 1) AS p`, number, partitions)
	return err
}

// Topics is the lock under which a process changes the topic that the database follows.
type Topics struct {
	conn *pgxpool.Conn // the session that holds the lock; all changes use it, so none is made without the lock
}

// topicsLock is the key of an advisory lock. The number means nothing.
const topicsLock = 7_241_003_918

// LockTopics takes the lock, or fails at once when another process has it. Release ends it, and so does a lost session.
func LockTopics(ctx context.Context, pool *pgxpool.Pool) (*Topics, error) {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot lock the topics of the database: %w", err)
	}
	taken := false
	err = conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", topicsLock).Scan(&taken)
	if err == nil && !taken {
		err = errors.New("another 'tradestore migrate' runs")
	}
	if err != nil {
		conn.Release()
		return nil, fmt.Errorf("cannot lock the topics of the database: %w", err)
	}
	return &Topics{conn}, nil
}

// Release releases the lock. If the session does not answer it is closed, and the server releases the lock.
func (t *Topics) Release() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := t.conn.Exec(ctx, "SELECT pg_advisory_unlock($1)", topicsLock); err != nil {
		_ = t.conn.Hijack().Close(ctx)
		return
	}
	t.conn.Release()
}

// Newest returns the generation that is applied now. Errors: class Broken if there is none.
func (t *Topics) Newest(ctx context.Context) (Generation, error) {
	g, err := newest(ctx, t.conn)
	if err != nil {
		return Generation{}, trade.Classed(classOf(err), "cannot read the positions: %w", err)
	}
	return g, nil
}

// Add is AddTopic under the lock.
func (t *Topics) Add(ctx context.Context, topic string, id trade.TopicID, partitions int) error {
	return addTopicOn(ctx, t.conn, topic, id, partitions)
}

// Projected returns nil if every outcome of every generation has been copied to the request store. Otherwise the error
// names an outcome that was not, or says that the database can't answer.
func (t *Topics) Projected(ctx context.Context) error { return checkProjected(ctx, t.conn) }

func checkProjected(ctx context.Context, db querier) error {
	var generation, partition int32
	var from, at int64
	err := db.QueryRow(ctx, `
		SELECT c.generation, c.partition, c.projected_offset, s."offset" FROM projection_cursor AS c
		CROSS JOIN LATERAL (
			SELECT "offset" FROM journal
			WHERE generation = c.generation AND partition = c.partition AND "offset" >= c.projected_offset
			ORDER BY "offset" LIMIT 1) AS s
		LIMIT 1`).Scan(&generation, &partition, &from, &at)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("cannot read the projection cursors: %w", err)
	}
	return fmt.Errorf("outcomes of partition %d in generation %d are projected up to offset %d, there is one at %d",
		partition, generation, from, at)
}

// Follow makes a topic the newest generation and closes the one before it, in one transaction (rule T10). From then on
// a worker of the old generation can change nothing. Its positions must be those of old, which the caller has compared
// with the ends of a log that no longer grows. Errors: class Fenced if a position has moved since, or an outcome was
// not projected; class Broken for a topic that the database followed before; class CommitUnknown if the commit may have
// happened. After any other error nothing was changed.
func (t *Topics) Follow(ctx context.Context, old Generation, topic string, id trade.TopicID, partitions int) error {
	tx, err := t.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
	if err == nil {
		if err = follow(ctx, tx, old, topic, id, partitions); err != nil {
			_ = tx.Rollback(context.WithoutCancel(ctx)) // where it fails pgx closes the session
		} else {
			err = commit(ctx, tx)
		}
	}
	if err != nil {
		return trade.Classed(classOf(err), "cannot follow topic %q as generation %d: %w", topic, old.Number+1, err)
	}
	return nil
}

func follow(ctx context.Context, tx pgx.Tx, old Generation, topic string, id trade.TopicID, partitions int) error {
	if _, err := tx.Exec(ctx, lockGenerations); err != nil {
		return err
	}
	var used int32
	err := tx.QueryRow(ctx, `SELECT coalesce(max(generation), 0) FROM ingest_offsets WHERE topic = $1 OR topic_id = $2`,
		topic, id).Scan(&used)
	switch {
	case err != nil:
		return err
	case used != 0:
		return trade.Classed(trade.Broken, "it is the topic of generation %d: take another name (--topic)", used)
	}
	partition, next := make([]int32, len(old.Positions)), make([]int64, len(old.Positions))
	for i, p := range old.Positions {
		partition[i], next[i] = p.Partition, p.NextOffset
	}
	done, err := tx.Exec(ctx, `
		UPDATE ingest_offsets AS o SET closed = true
		FROM unnest($3::integer[], $4::bigint[]) AS p(partition, next_offset)
		WHERE o.topic_id = $1 AND o.generation = $2 AND o.generation = (SELECT max(generation) FROM ingest_offsets)
		  AND o.partition = p.partition AND o.next_offset = p.next_offset AND NOT o.closed`,
		old.ID, old.Number, partition, next)
	switch {
	case err != nil:
		return err
	case int(done.RowsAffected()) != len(old.Positions):
		return trade.Classed(trade.Fenced, "of %d positions of generation %d, %d are where they were",
			len(old.Positions), old.Number, done.RowsAffected())
	}
	if err := checkProjected(ctx, tx); err != nil {
		return trade.Classed(trade.Fenced, "%w", err)
	}
	return insertGeneration(ctx, tx, old.Number+1, topic, id, partitions)
}
