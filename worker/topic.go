package worker

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/internal/checks"
	"tradestore/kafka"
	"tradestore/trade"
)

// topicReader reads how far the topic is applied, from the store, and where its partitions end, from Kafka.
type topicReader struct {
	store      TradeStore
	admin      *kgo.Client // set when the worker runs
	name       string
	partitions int
	timeout    time.Duration  // for the positions
	identity   trade.Position // the topic's id and generation in the store; set before the lanes start
}

// positions reads the positions of all partitions, one for each, of one topic. All calls expect the same topic.
func (t *topicReader) positions(ctx context.Context) ([]trade.Position, error) {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	all, err := t.store.Positions(ctx)
	if err != nil {
		return nil, err
	}
	if len(all) != t.partitions {
		return nil, trade.Classed(trade.Broken, "%w: positions of %d partitions expected in the store, seen: %d",
			checks.ErrWrong, t.partitions, len(all))
	}
	want := cmp.Or(t.identity, all[0])
	for i, p := range all {
		if p.TopicID != want.TopicID || p.Generation != want.Generation || p.Partition != int32(i) {
			return nil, trade.Classed(trade.Broken, "%w: position of partition %d of topic %x, generation %d expected "+
				"in the store, seen: partition %d of %x, generation %d",
				checks.ErrWrong, i, want.TopicID, want.Generation, p.Partition, p.TopicID, p.Generation)
		}
	}
	return all, nil
}

// ends reads where each partition ends: the high watermark, not the last stable offset of transactions.
func (t *topicReader) ends(ctx context.Context) (kadm.ListedOffsets, error) {
	ends, err := kadm.NewClient(t.admin).ListEndOffsets(ctx, t.name)
	if err != nil {
		return nil, fmt.Errorf("cannot read the end offsets of topic %s: %w", t.name, err)
	}
	return ends, nil
}

// check asks Kafka whether the topic is still the one whose positions the store keeps, with as many partitions (rules
// T1, T2).
func (t *topicReader) check(ctx context.Context) error {
	id, err := kafka.CheckTopic(ctx, t.admin, t.name, t.partitions)
	if err != nil {
		return err
	}
	return t.checkID(id)
}

// checkID compares the id of a topic with the one whose positions the store keeps (rule T1). A topic that was deleted
// and created again starts at offset 0: its records would be skipped in silence.
func (t *topicReader) checkID(id trade.TopicID) error {
	if id == t.identity.TopicID {
		return nil
	}
	return trade.Classed(trade.Broken, "%w: topic %s expected with id %x, as in the store, seen: %x",
		checks.ErrWrong, t.name, t.identity.TopicID, id)
}
