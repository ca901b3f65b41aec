package role

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"tradestore/kafka"
	"tradestore/server"
	"tradestore/trade"
)

// checkPositions compares the topic seen in Kafka with the one whose positions the database keeps (rules T1, T2).
// A topic made again under its old name starts at offset 0, and its records would be skipped in silence.
func checkPositions(topic string, id trade.TopicID, partitions int, positions []trade.Position) error {
	if len(positions) != partitions {
		return fmt.Errorf("%w: positions of %d partitions of topic %s expected in the database (--partitions), seen: %d", kafka.ErrTopology, partitions, topic, len(positions))
	}
	if positions[0].TopicID != id {
		return fmt.Errorf("%w: topic %s expected with id %x, as in the database, seen: %x", kafka.ErrTopology, topic, positions[0].TopicID, id)
	}
	return nil
}

// gate keeps the accept line shut until the topology has been verified: a 202 for a record in the wrong topic would be a
// promise that nobody keeps. Reads and probes are answered meanwhile.
type gate struct {
	server.RequestLog
	open atomic.Bool
}

var errUnverified = errors.New("schema and topic are not verified yet")

// Open refuses every request with no effect until the gate is open.
func (g *gate) Open(ctx context.Context, batch []*trade.Request) []error {
	if g.open.Load() {
		return g.RequestLog.Open(ctx, batch)
	}
	refused := make([]error, len(batch))
	for i := range refused {
		refused[i] = fmt.Errorf("%w: %w", trade.ErrNotOpened, errUnverified)
	}
	return refused
}

// check is what readiness asks.
func (g *gate) check(context.Context) error {
	if g.open.Load() {
		return nil
	}
	return errUnverified
}
