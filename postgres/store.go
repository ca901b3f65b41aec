package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"tradestore/trade"
)

// defaultTxTimeout is the time limit of an apply transaction. It is below the 60 s that a worker has to give up a
// partition, so the next owner of the partition does not wait long for the locks of a transaction (rule A9).
const defaultTxTimeout = 20 * time.Second

// StoreConfig holds the settings of a Store.
type StoreConfig struct {
	Topic     string           // as given to AddTopic; its positions are read
	TxTimeout time.Duration    // of one apply transaction, from its first statement to COMMIT; default 20 s
	Now       func() time.Time // in tests, for the time of decisions; nil takes the clock of the database
}

// Store applies batches of the log and reads the journal. Its methods may be called concurrently. Batches that share a
// partition then wait for each other, and all but one are fenced. Every error has a class (trade.ClassOf).
type Store struct {
	pool *pgxpool.Pool
	cfg  StoreConfig
}

// NewStore returns a Store on a pool of OpenWriter.
func NewStore(pool *pgxpool.Pool, cfg StoreConfig) *Store {
	cfg.TxTimeout = orDefault(cfg.TxTimeout, defaultTxTimeout)
	return &Store{pool: pool, cfg: cfg}
}

// testTime returns the time that a test gives to decisions; nil takes the clock of the database.
func (s *Store) testTime() *time.Time {
	if s.cfg.Now == nil {
		return nil
	}
	now := s.cfg.Now()
	return &now
}

// Positions returns the position of every partition of the newest generation, ascending by partition (rule A8). If that
// is the generation of another topic, the error has class Broken: another topic has followed, or AddTopic was not
// called.
func (s *Store) Positions(ctx context.Context) ([]trade.Position, error) {
	g, err := newest(ctx, s.pool)
	switch {
	case err != nil:
		return nil, trade.Classed(classOf(err), "cannot read the positions of topic %q: %w", s.cfg.Topic, err)
	case g.Topic != s.cfg.Topic:
		return nil, trade.Classed(trade.Broken, "topic %q has no positions in the database, "+
			"which follows topic %q in generation %d: use its --topic and --partitions", s.cfg.Topic, g.Topic, g.Number)
	}
	return g.Positions, nil
}
