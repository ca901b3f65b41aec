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

// closedBytes is the value of max.message.bytes of a closed topic: no batch is that small. Kafka has no read-only
// topics, but each leader compares a batch with this limit before it appends the batch. Followers do not, so records
// that were already accepted are still replicated.
const closedBytes = "1"

// CloseTopic makes a topic refuse every record. It returns when the leader of each partition refuses. A later leader
// refuses as well, because brokers learn of leaders and settings from one log, in order. The records of the topic stay
// and can be read. A producer gets MESSAGE_TOO_LARGE and does not send the record again. Repeating CloseTopic is safe.
// After an error the topic may be closed, or close a moment later; OpenTopic opens it.
func CloseTopic(ctx context.Context, client *kgo.Client, topic string) error {
	if err := setMaxBytes(ctx, client, topic, closedBytes); err != nil {
		return fmt.Errorf("cannot close topic %s: %w", topic, err)
	}
	ctx, cancel := context.WithTimeout(ctx, propagationLimit)
	defer cancel()
	retry := time.NewTicker(propagationPoll)
	defer retry.Stop()
	for last := error(nil); ; {
		err := checkClosed(ctx, client, topic)
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

// OpenTopic makes a closed topic accept records again, with the limit that CreateTopic sets, and says whether it was
// closed. It changes no other topic.
func OpenTopic(ctx context.Context, client *kgo.Client, topic string) (wasClosed bool, err error) {
	settings, err := topicSettings(ctx, client, topic)
	if err != nil || settings[maxBytesSetting] != closedBytes {
		return false, err
	}
	if err := setMaxBytes(ctx, client, topic, strconv.Itoa(openBytes)); err != nil {
		return true, fmt.Errorf("cannot open topic %s: %w", topic, err)
	}
	return true, nil
}

func setMaxBytes(ctx context.Context, client *kgo.Client, topic, value string) error {
	change := kadm.AlterConfig{Op: kadm.SetConfig, Name: maxBytesSetting, Value: &value}
	done, err := kadm.NewClient(client).AlterTopicConfigs(ctx, []kadm.AlterConfig{change}, topic)
	if err == nil {
		_, err = done.On(topic, func(r *kadm.AlterConfigsResponse) error { return r.Err })
	}
	if err != nil {
		return fmt.Errorf("cannot set %s to %s: %w", maxBytesSetting, value, err)
	}
	return nil
}

// checkClosed returns nil if the leader of every partition refuses a batch for its size. Otherwise the error says what
// one of them answered. The batch that it sends has a wrong checksum, which brokers check after the size. So no broker
// keeps the batch, and a broker that still accepts records answers CORRUPT_MESSAGE.
func checkClosed(ctx context.Context, client *kgo.Client, topic string) error {
	detail, _, err := metadata(ctx, client, topic)
	if err != nil {
		return err
	}
	byLeader := make(map[int32][]kmsg.ProduceRequestTopicPartition)
	for _, p := range detail.Partitions {
		if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
			return fmt.Errorf("partition %d has no leader: %w", p.Partition, err)
		}
		part := kmsg.NewProduceRequestTopicPartition()
		part.Partition, part.Records = p.Partition, corruptBatch()
		byLeader[p.Leader] = append(byLeader[p.Leader], part)
	}
	for leader, partitions := range byLeader {
		req := kmsg.NewPtrProduceRequest()
		req.Acks, req.TimeoutMillis = -1, int32(propagationLimit.Milliseconds())
		reqTopic := kmsg.NewProduceRequestTopic()
		reqTopic.Topic, reqTopic.TopicID, reqTopic.Partitions = topic, detail.TopicID, partitions
		req.Topics = append(req.Topics, reqTopic)
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

// corruptBatch returns a batch of one empty record that is valid except for its checksum.
func corruptBatch() []byte {
	record := kmsg.Record{Length: 6}
	b := kmsg.RecordBatch{
		Magic: 2, PartitionLeaderEpoch: -1, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: 1,
		FirstTimestamp: time.Now().UnixMilli(), MaxTimestamp: time.Now().UnixMilli(), Records: record.AppendTo(nil),
	}
	const beforeLength = 12 // bytes up to the end of the length field
	b.Length = int32(len(b.AppendTo(nil)) - beforeLength)
	return b.AppendTo(nil) // its checksum stays 0, which is wrong
}
