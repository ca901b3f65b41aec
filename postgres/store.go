package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"tradestore/trade"
)

// defaultTxTimeout is the time limit of an apply transaction. It lies below the 60 s that a worker has to give up a
// partition, so a transaction of a worker that lost one ends before the next owner has long waited for its locks.
const defaultTxTimeout = 20 * time.Second

// StoreConfig says what a Store applies.
type StoreConfig struct {
	Topic     string           // whose positions are read; as given to AddTopic
	TxTimeout time.Duration    // of one apply transaction, from its first statement to COMMIT; default 20 s
	Now       func() time.Time // stamps decisions; default time.Now. Decisions never depend on it
}

// Store applies batches of the log and walks the journal. Its methods may be called concurrently; batches that share a
// partition then wait for each other and all but one are fenced. Every error carries a class (trade.ClassOf).
type Store struct {
	pool *pgxpool.Pool
	cfg  StoreConfig
}

// NewStore makes a Store on a pool of OpenWriter.
func NewStore(pool *pgxpool.Pool, cfg StoreConfig) *Store {
	cfg.TxTimeout = orDefault(cfg.TxTimeout, defaultTxTimeout)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Store{pool: pool, cfg: cfg}
}

// Positions returns the position of every partition of the newest generation, ascending by partition. A topic that is not
// the one of this generation is an error of class Broken: another has followed it, or AddTopic never saw it.
func (s *Store) Positions(ctx context.Context) ([]trade.Position, error) {
	g, err := newest(ctx, s.pool)
	switch {
	case err != nil:
		return nil, trade.Classed(classOf(err), "cannot read the positions of topic %q: %w", s.cfg.Topic, err)
	case g.Topic != s.cfg.Topic:
		return nil, trade.Classed(trade.Broken, "topic %q has no positions in the database, which follows topic %q in generation %d: use its --topic and --partitions",
			s.cfg.Topic, g.Topic, g.Number)
	}
	return g.Positions, nil
}
