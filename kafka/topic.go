package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/internal/checks"
	"tradestore/trade"
)

// TopicSpec holds the properties of a new topic. A zero value leaves the setting to the broker.
type TopicSpec struct {
	Partitions  int           // at least 1; more partitions need a new topic (T10)
	Replication int           // replicas of each partition; 3 in production (T3)
	MinISR      int           // in-sync replicas that must have a record before it is acknowledged; 2 of 3
	Retention   time.Duration // how long records stay (K5)
}

const (
	propagationLimit = 10 * time.Second // until all brokers know of a change that the controller has made
	propagationPoll  = 50 * time.Millisecond
)

// Settings of a topic that are set here and checked by LogCheck.
const (
	maxBytesSetting        = "max.message.bytes"
	uncleanElectionSetting = "unclean.leader.election.enable"
	openBytes              = 1 << 20 // max.message.bytes of a topic that accepts records; more than maxBatchBytes
)

// CreateTopic makes cfg.Topic with the settings that LogCheck demands, and returns its identity. A topic that exists
// with the same number of partitions is left as it is, so repeating it is safe. Errors: one that wraps checks.ErrWrong
// for a topic with another number of partitions.
func CreateTopic(ctx context.Context, cfg Config, spec TopicSpec) (trade.TopicID, error) {
	opts := []kgo.Opt{kgo.SeedBrokers(cfg.Brokers...), kgo.ClientID(cfg.ClientID), kgo.DialTimeout(dialTimeout)}
	client, err := kgo.NewClient(append(opts, cfg.Options...)...)
	if err != nil {
		return trade.TopicID{}, fmt.Errorf("cannot make Kafka client %q: %w", cfg.ClientID, err)
	}
	defer client.Close()
	admin, replication := kadm.NewClient(client), int16(cmp.Or(spec.Replication, -1))
	create := func(settings map[string]*string) (kadm.CreateTopicResponse, error) {
		return admin.CreateTopic(ctx, int32(spec.Partitions), replication, settings, cfg.Topic)
	}
	made, err := create(spec.settings())
	if errors.Is(err, kerr.InvalidConfig) { // not every broker knows this setting
		settings := spec.settings()
		delete(settings, uncleanElectionSetting)
		made, err = create(settings)
	}
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		if made.ErrMessage != "" {
			err = fmt.Errorf("%w: %s", err, made.ErrMessage)
		}
		return trade.TopicID{}, fmt.Errorf("cannot create topic %s with %d partitions: %w", cfg.Topic, spec.Partitions, err)
	}
	return awaitTopic(ctx, client, cfg.Topic, spec.Partitions, trade.TopicID(made.ID))
}

// awaitTopic waits until the brokers know a topic that the controller has, and checks it. Until then they may know no
// such topic, or a deleted one of the same name. made is the identity of a new topic, zero for one that existed before.
func awaitTopic(
	ctx context.Context, client *kgo.Client, topic string, partitions int, made trade.TopicID,
) (trade.TopicID, error) {
	ctx, cancel := context.WithTimeout(ctx, propagationLimit)
	defer cancel()
	retry := time.NewTicker(propagationPoll)
	defer retry.Stop()
	for {
		id, err := CheckTopic(ctx, client, topic, partitions)
		other := errors.Is(err, checks.ErrWrong) || err == nil && id != made
		if !errors.Is(err, errNoTopic) && (made == (trade.TopicID{}) || !other) {
			return id, err
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return trade.TopicID{}, fmt.Errorf("cannot see the new topic %s: %w", topic, errors.Join(context.Cause(ctx), err))
		}
	}
}

func (s TopicSpec) settings() map[string]*string {
	c := map[string]*string{
		"cleanup.policy":       kadm.StringPtr("delete"), // compaction by trade id would delete requests (T4)
		uncleanElectionSetting: kadm.StringPtr("false"),  // a replica out of sync lacks acknowledged records (T3)
		maxBytesSetting:        kadm.StringPtr(strconv.Itoa(openBytes)),
	}
	set := func(name string, value int64) {
		if value != 0 {
			c[name] = kadm.StringPtr(strconv.FormatInt(value, 10))
		}
	}
	set("min.insync.replicas", int64(s.MinISR))
	set("retention.ms", s.Retention.Milliseconds())
	return c
}

// CheckTopic returns the identity of a topic that has the expected number of partitions (rules T1, T2).
// Errors: one that wraps checks.ErrWrong for a topic that is missing or has another number of partitions; any other
// means that the brokers can't answer now.
func CheckTopic(ctx context.Context, client *kgo.Client, topic string, partitions int) (trade.TopicID, error) {
	const wrong = "%w: topic %s expected with %d partitions, seen: "
	detail, _, err := metadata(ctx, client, topic)
	switch {
	case errors.Is(err, errNoTopic):
		return trade.TopicID{}, fmt.Errorf(wrong+"%w", checks.ErrWrong, topic, partitions, err)
	case err != nil:
		return trade.TopicID{}, err
	case len(detail.Partitions) != partitions:
		return trade.TopicID{}, fmt.Errorf(wrong+"%d", checks.ErrWrong, topic, partitions, len(detail.Partitions))
	}
	return detail.TopicID, nil
}
