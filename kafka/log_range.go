package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"
)

// LogRange is what the current leader of a partition says of its log.
type LogRange struct {
	Start, End int64
	Oldest     time.Time // of the record at the start; zero when the log is empty
}

// anyTime asks for the first record, with its time.
const anyTime = 0

// ReadRanges reads where the log of each of the given partitions starts and ends (the high watermark). known has the
// partitions, each with a leader epoch that it has reached. A partition without an answer of its current leader is left
// out: a leader that was replaced may not know it yet, and its end may lie below records that were acknowledged since.
func ReadRanges(
	ctx context.Context, client *kgo.Client, topic string, known map[int32]int32,
) (map[int32]LogRange, error) {
	epochs, err := leaderEpochs(ctx, client, topic, known)
	if err != nil {
		return nil, fmt.Errorf("cannot read the leaders of topic %s: %w", topic, err)
	}
	ranges := make(map[int32]LogRange, len(epochs))
	for partition := range epochs {
		ranges[partition] = LogRange{}
	}
	for _, ask := range []struct {
		at   int64
		note func(r *LogRange, offset, millis int64)
	}{
		{latest, func(r *LogRange, offset, _ int64) { r.End = offset }},
		{earliest, func(r *LogRange, offset, _ int64) { r.Start = offset }}, // after the end: the log may lose records
		{anyTime, func(r *LogRange, offset, millis int64) {
			if offset >= 0 {
				r.Oldest = time.UnixMilli(millis)
			}
		}},
	} {
		answers, err := offsetsAt(ctx, client, topic, epochs, ask.at)
		if err != nil {
			return nil, fmt.Errorf("cannot read the offsets of topic %s: %w", topic, err)
		}
		for partition, r := range ranges {
			if a, ok := answers[partition]; ok {
				ask.note(&r, a.Offset, a.Timestamp)
				ranges[partition] = r
			} else {
				delete(ranges, partition)
			}
		}
	}
	return ranges, nil
}

// leaderEpochs returns the newest leader epoch of each partition in known. It asks every broker, and is an error unless
// more than half of them answer: those that are cut off together with an old leader believe in it.
func leaderEpochs(
	ctx context.Context, client *kgo.Client, topic string, known map[int32]int32,
) (map[int32]int32, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{{Topic: kmsg.StringPtr(topic)}}
	first, err := req.RequestWith(ctx, client)
	if err != nil {
		return nil, err
	}
	answers := make([]*kmsg.MetadataResponse, len(first.Brokers))
	var calls errgroup.Group
	for i, broker := range first.Brokers {
		calls.Go(func() error {
			if answer, err := client.Broker(int(broker.NodeID)).Request(ctx, req); err == nil {
				answers[i], _ = answer.(*kmsg.MetadataResponse)
			}
			return nil
		})
	}
	_ = calls.Wait() // none returns an error
	epochs, answered := make(map[int32]int32, len(known)), 0
	for partition, epoch := range known {
		epochs[partition] = epoch
	}
	for _, answer := range answers {
		if answer == nil {
			continue
		}
		answered++
		for _, t := range answer.Topics {
			for _, p := range t.Partitions {
				if epoch, ok := epochs[p.Partition]; ok {
					epochs[p.Partition] = max(epoch, p.LeaderEpoch)
				}
			}
		}
	}
	if 2*answered <= len(answers) {
		return nil, fmt.Errorf("%d of %d brokers answer", answered, len(answers))
	}
	return epochs, nil
}

// offsetsAt asks the leaders for the offset at a time, each under the epoch that it must have. Only answers without an
// error are returned: FENCED_LEADER_EPOCH and UNKNOWN_LEADER_EPOCH are those of another leader than the current one.
func offsetsAt(
	ctx context.Context, client *kgo.Client, topic string, epochs map[int32]int32, at int64,
) (map[int32]kmsg.ListOffsetsResponseTopicPartition, error) {
	req := offsetsRequest(topic, epochs, at)
	answers := make(map[int32]kmsg.ListOffsetsResponseTopicPartition, len(epochs))
	var failed error
	for _, shard := range client.RequestSharded(ctx, req) {
		if shard.Err != nil {
			failed = shard.Err // a broker that is down: its partitions have no answer
			continue
		}
		for _, t := range shard.Resp.(*kmsg.ListOffsetsResponse).Topics {
			for _, p := range t.Partitions {
				if kerr.ErrorForCode(p.ErrorCode) == nil {
					answers[p.Partition] = p
				}
			}
		}
	}
	if len(answers) == 0 {
		return nil, failed
	}
	return answers, nil
}
