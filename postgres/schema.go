package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tradestore/trade"
)

// AddTopic inserts the rows that a worker needs to follow a topic: a position and a projection cursor for each
// partition, at offset 0 in generation 1. Repeating the call changes nothing. A known topic with another id or number
// of partitions, or a second topic, is an error of class Broken: offsets would start again or keys would move to other
// partitions.
func AddTopic(ctx context.Context, pool *pgxpool.Pool, topic string, id trade.TopicID, partitions int) error {
	return addTopicOn(ctx, pool, topic, id, partitions)
}

func addTopicOn(ctx context.Context, db database, topic string, id trade.TopicID, partitions int) error {
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error { return addTopic(ctx, tx, topic, id, partitions) })
	if err != nil {
		return trade.Classed(classOf(err), "cannot add the positions of topic %q: %w", topic, err)
	}
	return nil
}

func addTopic(ctx context.Context, tx pgx.Tx, topic string, id trade.TopicID, partitions int) error {
	if _, err := tx.Exec(ctx, lockGenerations); err != nil {
		return err
	}
	have, err := newest(ctx, tx)
	switch {
	case errors.Is(err, errNoGeneration):
		return insertGeneration(ctx, tx, 1, topic, id, partitions)
	case err != nil:
		return err
	case have.Topic != topic:
		return trade.Classed(trade.Broken, "the database follows topic %q, not %q: "+
			"use another database, or the same --topic; --new-generation moves to another one", have.Topic, topic)
	case have.ID != id:
		return trade.Classed(trade.Broken, "topic %q was created anew: its id is %x, the positions belong to %x",
			topic, id, have.ID)
	case len(have.Positions) != partitions:
		return trade.Classed(trade.Broken, "topic %q has %d partitions, the positions belong to %d (--partitions)",
			topic, partitions, len(have.Positions))
	}
	return nil
}
