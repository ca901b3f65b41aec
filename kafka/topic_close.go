package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// closedBytes is the largest batch of a closed topic: no batch is that small. Kafka knows no read-only topics, but each
// leader compares a batch with this limit before it appends it. Followers don't, so what was taken is still replicated.
const closedBytes = "1"

// CloseTopic makes a topic refuse every record, and returns when the leader of each partition does so. A broker that leads
// one later has heard of it too, because brokers learn of leaders and settings from one log, in order. What the topic has
// stays and can be read. Producers are told MESSAGE_TOO_LARGE and give the record up. Repeating it is safe.
// Errors: the topic may be closed, or close a moment later; OpenTopic undoes it.
func CloseTopic(ctx context.Context, client *kgo.Client, topic string) error {
	if err := setLargestBatch(ctx, client, topic, closedBytes); err != nil {
		return fmt.Errorf("cannot close topic %s: %w", topic, err)
	}
	ctx, cancel := context.WithTimeout(ctx, hearsayLimit)
	defer cancel()
	retry := time.NewTicker(hearsayPoll)
	defer retry.Stop()
	for last := error(nil); ; {
		err := refuses(ctx, client, topic)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return fmt.Errorf("cannot see that topic %s is closed: %w", topic, errors.Join(context.Cause(ctx), last))
		}
	}
}

// OpenTopic lets a closed topic take records again, as CreateTopic makes it, and says whether it was closed. Any other
// topic is left as it is.
func OpenTopic(ctx context.Context, client *kgo.Client, topic string) (wasClosed bool, err error) {
	settings, err := topicSettings(ctx, client, topic)
	if err != nil || settings[largestBatch] != closedBytes {
		return false, err
	}
	if err := setLargestBatch(ctx, client, topic, strconv.Itoa(openBytes)); err != nil {
		return true, fmt.Errorf("cannot open topic %s: %w", topic, err)
	}
	return true, nil
}

func setLargestBatch(ctx context.Context, client *kgo.Client, topic, value string) error {
	change := kadm.AlterConfig{Op: kadm.SetConfig, Name: largestBatch, Value: &value}
	done, err := kadm.NewClient(client).AlterTopicConfigs(ctx, []kadm.AlterConfig{change}, topic)
	if err == nil {
		_, err = done.On(topic, func(r *kadm.AlterConfigsResponse) error { return r.Err })
	}
	if err != nil {
		return fmt.Errorf("cannot set %s to %s: %w", largestBatch, value, err)
	}
	return nil
}

// refuses says whether the leader of every partition refuses a record for its size; the error says what one of them
// answers instead. The batch that it sends has a wrong checksum, which brokers look at after the size: nobody keeps it,
// and one that takes records answers "corrupt".
func refuses(ctx context.Context, client *kgo.Client, topic string) error {
	detail, _, err := metadata(ctx, client, topic)
	if err != nil {
		return err
	}
	asked := make(map[int32][]kmsg.ProduceRequestTopicPartition)
	for _, p := range detail.Partitions {
		if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
			return fmt.Errorf("partition %d has no leader: %w", p.Partition, err)
		}
		one := kmsg.NewProduceRequestTopicPartition()
		one.Partition, one.Records = p.Partition, corruptBatch()
		asked[p.Leader] = append(asked[p.Leader], one)
	}
	for leader, partitions := range asked {
		req := kmsg.NewPtrProduceRequest()
		req.Acks, req.TimeoutMillis = -1, int32(hearsayLimit.Milliseconds())
		one := kmsg.NewProduceRequestTopic()
		one.Topic, one.TopicID, one.Partitions = topic, detail.TopicID, partitions
		req.Topics = append(req.Topics, one)
		resp, err := req.RequestWith(ctx, client.Broker(int(leader)))
		if err != nil {
			return fmt.Errorf("cannot ask broker %d: %w", leader, err)
		}
		answers := 0
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if answers++; p.ErrorCode != kerr.MessageTooLarge.Code {
					return fmt.Errorf("partition %d answers: %w", p.Partition, kerr.ErrorForCode(p.ErrorCode))
				}
			}
		}
		if answers != len(partitions) {
			return fmt.Errorf("broker %d answers for %d of %d partitions", leader, answers, len(partitions))
		}
	}
	return nil
}

// corruptBatch is a batch of one empty record that is well formed but for its checksum.
func corruptBatch() []byte {
	record := kmsg.Record{Length: 6}
	b := kmsg.RecordBatch{
		Magic: 2, PartitionLeaderEpoch: -1, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: 1,
		FirstTimestamp: time.Now().UnixMilli(), MaxTimestamp: time.Now().UnixMilli(), Records: record.AppendTo(nil),
	}
	const beforeLength = 12 // the bytes up to and with the length itself
	b.Length = int32(len(b.AppendTo(nil)) - beforeLength)
	return b.AppendTo(nil) // the checksum of no batch is 0
}

// Ends returns where the log of each partition ends, by partition: the offset that the next record will get.
func Ends(ctx context.Context, client *kgo.Client, topic string, partitions int) ([]int64, error) {
	found, err := listOffsets(ctx, client, topic, partitions, latest)
	if err != nil {
		return nil, err
	}
	ends := make([]int64, partitions)
	for p := range ends {
		ends[p] = found[int32(p)].at
	}
	return ends, nil
}
