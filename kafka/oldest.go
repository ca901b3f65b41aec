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

// Layout of a record batch in the log (KIP-98). Its first bytes hold the time of its first record.
const (
	batchMagicAt = 16
	batchMagic   = 2
	batchTimeAt  = 27
	batchHead    = batchTimeAt + 8
	fetchBytes   = 1 << 10 // requested of each partition; a broker that can do so sends no more of the batch
)

// Oldest returns when the oldest of the records at the given positions was sent. It is exact to one batch: records are
// not decoded. Each position must lie below the end of its partition.
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
	for leader, led := range byLeader {
		at, err := oldestOfLeader(ctx, client.Broker(int(leader)), topic, meta.TopicID, led)
		if err != nil {
			return time.Time{}, fmt.Errorf("cannot read the oldest records of topic %s: %w", topic, err)
		}
		if oldest.IsZero() || at.Before(oldest) {
			oldest = at
		}
	}
	return oldest, nil
}

func oldestOfLeader(
	ctx context.Context, broker *kgo.Broker, topic string, id [16]byte, positions []trade.Position,
) (oldest time.Time, err error) {
	req := kmsg.NewPtrFetchRequest()
	req.MinBytes, req.MaxBytes = 1, int32(fetchBytes*len(positions))
	reqTopic := kmsg.NewFetchRequestTopic()
	reqTopic.Topic, reqTopic.TopicID = topic, id
	for _, p := range positions {
		part := kmsg.NewFetchRequestTopicPartition()
		part.Partition, part.FetchOffset, part.PartitionMaxBytes = p.Partition, p.NextOffset, fetchBytes
		reqTopic.Partitions = append(reqTopic.Partitions, part)
	}
	req.Topics = append(req.Topics, reqTopic)
	answer, err := broker.RetriableRequest(ctx, req)
	if err != nil {
		return oldest, err
	}
	resp, ok := answer.(*kmsg.FetchResponse)
	if !ok {
		return oldest, errors.New("the response is not one to a fetch")
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return oldest, err
	}
	for i := range resp.Topics {
		for _, p := range resp.Topics[i].Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return oldest, err
			}
			if at, ok := firstTimestamp(p.RecordBatches); ok && (oldest.IsZero() || at.Before(oldest)) {
				oldest = at
			}
		}
	}
	if oldest.IsZero() {
		return oldest, errors.New("the response has no record")
	}
	return oldest, nil
}

// firstTimestamp returns the time of the first record of a batch. It needs only the head of the batch.
func firstTimestamp(batch []byte) (time.Time, bool) {
	if len(batch) < batchHead || batch[batchMagicAt] != batchMagic {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(batch[batchTimeAt:]))), true
}
