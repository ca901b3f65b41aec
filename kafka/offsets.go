package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tradestore/trade"
)

// offset is an offset of one partition, with the leader epoch that it belongs to.
type offset struct {
	at    int64
	epoch int32
}

// Timestamps that stand for an end of the log in a ListOffsets request.
const (
	latest   = -1
	earliest = -2
)

// Ends returns the end of the log of each partition, by partition: the offset that the next record will get.
func Ends(ctx context.Context, client *kgo.Client, topic string, partitions int) ([]int64, error) {
	offsets, err := listOffsets(ctx, client, topic, partitions, latest)
	if err != nil {
		return nil, err
	}
	ends := make([]int64, partitions)
	for p := range ends {
		ends[p] = offsets[int32(p)].at
	}
	return ends, nil
}

const anyEpoch = -1 // in place of the leader epoch that an answer must come from

// offsetsRequest asks for the offset at a timestamp, of each partition under a leader epoch.
func offsetsRequest(topic string, epochs map[int32]int32, timestamp int64) *kmsg.ListOffsetsRequest {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	asked := kmsg.NewListOffsetsRequestTopic()
	asked.Topic = topic
	for partition, epoch := range epochs {
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.CurrentLeaderEpoch, p.Timestamp = partition, epoch, timestamp
		asked.Partitions = append(asked.Partitions, p)
	}
	req.Topics = append(req.Topics, asked)
	return req
}

// listOffsets returns the start or the end of the log of every partition. The end counts what all in-sync replicas
// have.
func listOffsets(
	ctx context.Context, client *kgo.Client, topic string, partitions int, timestamp int64,
) (map[int32]offset, error) {
	anyLeader := make(map[int32]int32, partitions)
	for p := range partitions {
		anyLeader[int32(p)] = anyEpoch
	}
	resp, err := offsetsRequest(topic, anyLeader, timestamp).RequestWith(ctx, client)
	offsets := make(map[int32]offset, partitions)
	for i := 0; err == nil && i < len(resp.Topics); i++ {
		for _, p := range resp.Topics[i].Partitions {
			offsets[p.Partition] = offset{p.Offset, p.LeaderEpoch}
			if err = kerr.ErrorForCode(p.ErrorCode); err != nil {
				break
			}
		}
	}
	if err == nil && len(offsets) != partitions {
		err = fmt.Errorf("the response has %d partitions of %d", len(offsets), partitions)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the offsets of topic %s: %w", topic, err)
	}
	return offsets, nil
}

// epochEnds returns where the leader epoch of each position ends. Partitions where nothing was applied are left out.
func epochEnds(
	ctx context.Context, client *kgo.Client, topic string, positions []trade.Position,
) (map[int32]offset, error) {
	var req kadm.OffsetForLeaderEpochRequest
	for _, p := range positions {
		if p.LeaderEpoch >= 0 {
			req.Add(topic, p.Partition, p.LeaderEpoch)
		}
	}
	if req == nil {
		return nil, nil
	}
	resp, err := kadm.NewClient(client).OffsetForLeaderEpoch(ctx, req)
	ends := make(map[int32]offset)
	for _, p := range resp[topic] {
		err = errors.Join(err, p.Err)
		ends[p.Partition] = offset{p.EndOffset, p.LeaderEpoch}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the epochs of topic %s: %w", topic, err)
	}
	return ends, nil
}
