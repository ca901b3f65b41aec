package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tradestore/trade"
)

// The head of a record batch, as it lies in the log (KIP-98): a few bytes of it say when the first record was sent.
const (
	batchMagicAt = 16
	batchMagic   = 2
	batchTimeAt  = 27
	batchHead    = batchTimeAt + 8
	batchRoom    = 1 << 10 // asked for of each partition: the rest of a batch is cut off where the broker can do that
)

// Oldest returns when the oldest of the records at the positions given was sent, exact to the span of one batch. Each
// position must lie below the end of its partition. Records are not decoded.
func Oldest(ctx context.Context, client *kgo.Client, topic string, positions []trade.Position) (time.Time, error) {
	meta, _, err := metadata(ctx, client, topic)
	if err != nil {
		return time.Time{}, err
	}
	leaders := make(map[int32]int32, len(meta.Partitions))
	for _, p := range meta.Partitions {
		leaders[p.Partition] = p.Leader
	}
	byLeader := map[int32][]trade.Position{}
	for _, p := range positions {
		leader, ok := leaders[p.Partition]
		if !ok || leader < 0 {
			return time.Time{}, fmt.Errorf("cannot read partition %d of topic %s: it has no leader", p.Partition, topic)
		}
		byLeader[leader] = append(byLeader[leader], p)
	}
	var oldest time.Time
	for leader, held := range byLeader {
		at, err := oldestAt(ctx, client.Broker(int(leader)), topic, meta.TopicID, held)
		if err != nil {
			return time.Time{}, fmt.Errorf("cannot read the oldest records of topic %s: %w", topic, err)
		}
		if oldest.IsZero() || at.Before(oldest) {
			oldest = at
		}
	}
	return oldest, nil
}

func oldestAt(ctx context.Context, broker *kgo.Broker, topic string, id [16]byte, positions []trade.Position) (oldest time.Time, err error) {
	req := kmsg.NewPtrFetchRequest()
	req.MinBytes, req.MaxBytes = 1, int32(batchRoom*len(positions))
	asked := kmsg.NewFetchRequestTopic()
	asked.Topic, asked.TopicID = topic, id
	for _, p := range positions {
		one := kmsg.NewFetchRequestTopicPartition()
		one.Partition, one.FetchOffset, one.PartitionMaxBytes = p.Partition, p.NextOffset, batchRoom
		asked.Partitions = append(asked.Partitions, one)
	}
	req.Topics = append(req.Topics, asked)
	answer, err := broker.RetriableRequest(ctx, req)
	if err != nil {
		return oldest, err
	}
	resp, ok := answer.(*kmsg.FetchResponse)
	if !ok {
		return oldest, errors.New("the answer is not one to a fetch")
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return oldest, err
	}
	for i := range resp.Topics {
		for _, p := range resp.Topics[i].Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return oldest, err
			}
			if at, ok := sentAt(p.RecordBatches); ok && (oldest.IsZero() || at.Before(oldest)) {
				oldest = at
			}
		}
	}
	if oldest.IsZero() {
		return oldest, errors.New("the answer holds no record")
	}
	return oldest, nil
}

// sentAt reads the time of the first record of a batch, of which only the head need be there.
func sentAt(batch []byte) (time.Time, bool) {
	if len(batch) < batchHead || batch[batchMagicAt] != batchMagic {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(batch[batchTimeAt:]))), true
}
