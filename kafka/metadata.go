package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// metadata returns what the brokers say of a topic, and the ids of the brokers. It sends a request of its own, because
// kadm may answer from the client's cache, which can still hold a deleted topic. Errors: errNoTopic if there is none.
func metadata(ctx context.Context, client *kgo.Client, topic string) (kmsg.MetadataResponseTopic, []int32, error) {
	fail := func(brokers []int32, err error) (kmsg.MetadataResponseTopic, []int32, error) {
		return kmsg.MetadataResponseTopic{}, brokers, fmt.Errorf("cannot read metadata of topic %s: %w", topic, err)
	}
	req := kmsg.NewPtrMetadataRequest()
	reqTopic := kmsg.NewMetadataRequestTopic()
	reqTopic.Topic = &topic
	req.Topics = append(req.Topics, reqTopic)
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return fail(nil, err)
	}
	brokers := make([]int32, len(resp.Brokers))
	for i := range resp.Brokers {
		brokers[i] = resp.Brokers[i].NodeID
	}
	if len(resp.Topics) != 1 {
		return fail(brokers, fmt.Errorf("the response has %d topics", len(resp.Topics)))
	}
	switch err := kerr.ErrorForCode(resp.Topics[0].ErrorCode); {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return kmsg.MetadataResponseTopic{}, brokers, errNoTopic
	case err != nil:
		return fail(brokers, err)
	}
	return resp.Topics[0], brokers, nil
}

// topicSettings returns the settings of a topic, including those with a default value.
func topicSettings(ctx context.Context, client *kgo.Client, topic string) (map[string]string, error) {
	resources, err := kadm.NewClient(client).DescribeTopicConfigs(ctx, topic)
	if err == nil {
		var r kadm.ResourceConfig
		if r, err = resources.On(topic, func(r *kadm.ResourceConfig) error { return r.Err }); err == nil {
			return settingsOf(r), nil
		}
	}
	return nil, fmt.Errorf("cannot read the settings of topic %s: %w", topic, err)
}

func settingsOf(r kadm.ResourceConfig) map[string]string {
	settings := make(map[string]string, len(r.Configs))
	for _, c := range r.Configs {
		settings[c.Key] = c.MaybeValue()
	}
	return settings
}

// brokerSetting returns a setting of the brokers: "true" if one of them says so. Brokers that are down are ignored
// while at least one answers. Errors: metaErr, if it left no broker to ask; errNoSetting.
func brokerSetting(
	ctx context.Context, client *kgo.Client, brokers []int32, metaErr error, name string,
) (string, error) {
	if len(brokers) == 0 {
		return "", metaErr
	}
	resources, err := kadm.NewClient(client).DescribeBrokerConfigs(ctx, brokers...)
	value, answered := "", false
	for _, r := range resources {
		if r.Err != nil {
			err = r.Err
			continue
		}
		answered = true
		if v, known := settingsOf(r)[name]; known && value != "true" {
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
