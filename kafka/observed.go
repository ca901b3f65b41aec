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

// What brokers are asked is asked with requests of our own: kadm answers some from the client's cache, which outlives a
// topic.

// metadata returns what the brokers say of a topic, and their ids. errNoTopic: it does not exist.
func metadata(ctx context.Context, client *kgo.Client, topic string) (kmsg.MetadataResponseTopic, []int32, error) {
	fail := func(brokers []int32, err error) (kmsg.MetadataResponseTopic, []int32, error) {
		return kmsg.MetadataResponseTopic{}, brokers, fmt.Errorf("cannot read metadata of topic %s: %w", topic, err)
	}
	req := kmsg.NewPtrMetadataRequest()
	asked := kmsg.NewMetadataRequestTopic()
	asked.Topic = &topic
	req.Topics = append(req.Topics, asked)
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return fail(nil, err)
	}
	brokers := make([]int32, len(resp.Brokers))
	for i := range resp.Brokers {
		brokers[i] = resp.Brokers[i].NodeID
	}
	if len(resp.Topics) != 1 {
		return fail(brokers, fmt.Errorf("the answer has %d topics", len(resp.Topics)))
	}
	switch err := kerr.ErrorForCode(resp.Topics[0].ErrorCode); {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return kmsg.MetadataResponseTopic{}, brokers, errNoTopic
	case err != nil:
		return fail(brokers, err)
	}
	return resp.Topics[0], brokers, nil
}

// topicSettings returns the settings of a topic, those left at their defaults too.
func topicSettings(ctx context.Context, client *kgo.Client, topic string) (map[string]string, error) {
	found, err := kadm.NewClient(client).DescribeTopicConfigs(ctx, topic)
	if err == nil {
		var one kadm.ResourceConfig
		if one, err = found.On(topic, func(r *kadm.ResourceConfig) error { return r.Err }); err == nil {
			return values(one), nil
		}
	}
	return nil, fmt.Errorf("cannot read the settings of topic %s: %w", topic, err)
}

func values(r kadm.ResourceConfig) map[string]string {
	all := make(map[string]string, len(r.Configs))
	for _, c := range r.Configs {
		all[c.Key] = c.MaybeValue()
	}
	return all
}

// brokerSetting returns a setting of the brokers: "true" if one of them says so. Brokers that are down don't count, as
// long as one answers. Errors: metaErr, if it left no broker to ask; errNoSetting.
func brokerSetting(ctx context.Context, client *kgo.Client, brokers []int32, metaErr error, name string) (string, error) {
	if len(brokers) == 0 {
		return "", metaErr
	}
	found, err := kadm.NewClient(client).DescribeBrokerConfigs(ctx, brokers...)
	value, answered := "", false
	for _, r := range found {
		if r.Err != nil {
			err = r.Err
			continue
		}
		answered = true
		if v, known := values(r)[name]; known && value != "true" {
			value = v
		}
	}
	switch {
	case !answered:
		return "", fmt.Errorf("cannot read the settings of the brokers: %w", err)
	case value == "":
		return "", errNoSetting
	}
	return value, nil
}

// Timestamps that stand for an end of the log in a request for offsets.
const (
	latest   = -1
	earliest = -2
)

// listOffsets returns one end of the log of every partition, as acknowledged by all replicas in sync.
func listOffsets(ctx context.Context, client *kgo.Client, topic string, partitions int, which int64) (map[int32]offset, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	asked := kmsg.NewListOffsetsRequestTopic()
	asked.Topic = topic
	for p := range partitions {
		one := kmsg.NewListOffsetsRequestTopicPartition()
		one.Partition, one.Timestamp = int32(p), which
		asked.Partitions = append(asked.Partitions, one)
	}
	req.Topics = append(req.Topics, asked)
	resp, err := req.RequestWith(ctx, client)
	found := make(map[int32]offset, partitions)
	for i := 0; err == nil && i < len(resp.Topics); i++ {
		for _, p := range resp.Topics[i].Partitions {
			found[p.Partition] = offset{p.Offset, p.LeaderEpoch}
			if err = errors.Join(err, kerr.ErrorForCode(p.ErrorCode)); err != nil {
				break
			}
		}
	}
	if err == nil && len(found) != partitions {
		err = fmt.Errorf("the answer has %d partitions of %d", len(found), partitions)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the offsets of topic %s: %w", topic, err)
	}
	return found, nil
}

// epochEnds returns where the log of each position's epoch ends; positions before the first record are left out.
func epochEnds(ctx context.Context, client *kgo.Client, topic string, positions []trade.Position) (map[int32]offset, error) {
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
	found := make(map[int32]offset)
	for _, p := range resp[topic] {
		err = errors.Join(err, p.Err)
		found[p.Partition] = offset{p.EndOffset, p.LeaderEpoch}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the epochs of topic %s: %w", topic, err)
	}
	return found, nil
}
