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

// TopicSpec says how a topic is to be made. A zero value leaves the setting to the broker.
type TopicSpec struct {
	Partitions  int           // at least 1; can't be changed later without a new topic (T10)
	Replication int           // copies of each partition; 3 outside a single machine (T3)
	MinISR      int           // copies that must have a record before it is acknowledged; 2 with 3 copies
	Retention   time.Duration // how long records stay (K5)
}

const (
	hearsayLimit = 10 * time.Second // until the brokers know what the controller knows
	hearsayPoll  = 50 * time.Millisecond
)

// Settings of a topic that are set here and checked by LogCheck.
const (
	largestBatch    = "max.message.bytes"
	uncleanElection = "unclean.leader.election.enable"
	openBytes       = 1 << 20 // of largestBatch, while a topic takes records; more than maxBatchBytes
)

// CreateTopic makes cfg.Topic, with the settings that the checks of LogCheck demand, or finds it made already with the same
// number of partitions, and returns its identity. Repeating it is safe. Errors: one that wraps checks.ErrWrong for a
// topic with another number of partitions.
func CreateTopic(ctx context.Context, cfg Config, spec TopicSpec) (trade.TopicID, error) {
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(cfg.Brokers...), kgo.ClientID(cfg.ClientID), kgo.DialTimeout(dialTimeout)}, cfg.Options...)...)
	if err != nil {
		return trade.TopicID{}, fmt.Errorf("cannot make Kafka client %q: %w", cfg.ClientID, err)
	}
	defer client.Close()
	create := func(settings map[string]*string) (kadm.CreateTopicResponse, error) {
		return kadm.NewClient(client).CreateTopic(ctx, int32(spec.Partitions), int16(cmp.Or(spec.Replication, -1)), settings, cfg.Topic)
	}
	made, err := create(spec.configs())
	if errors.Is(err, kerr.InvalidConfig) { // a broker that does not know the one setting that not every broker has
		settings := spec.configs()
		delete(settings, uncleanElection)
		made, err = create(settings)
	}
	switch {
	case errors.Is(err, kerr.TopicAlreadyExists):
	case err != nil && made.ErrMessage != "":
		return trade.TopicID{}, fmt.Errorf("cannot create topic %s with %d partitions: %w: %s", cfg.Topic, spec.Partitions, err, made.ErrMessage)
	case err != nil:
		return trade.TopicID{}, fmt.Errorf("cannot create topic %s with %d partitions: %w", cfg.Topic, spec.Partitions, err)
	}
	return awaitTopic(ctx, client, cfg.Topic, spec.Partitions, trade.TopicID(made.ID))
}

// awaitTopic checks a topic that the controller has. The brokers hear of it a moment later, and may tell meanwhile that
// there is none, or of one with the same name that was deleted. made is the identity of a topic that is new, else zero.
func awaitTopic(ctx context.Context, client *kgo.Client, topic string, partitions int, made trade.TopicID) (trade.TopicID, error) {
	ctx, cancel := context.WithTimeout(ctx, hearsayLimit)
	defer cancel()
	retry := time.NewTicker(hearsayPoll)
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

func (s TopicSpec) configs() map[string]*string {
	c := map[string]*string{
		"cleanup.policy": kadm.StringPtr("delete"), // compaction by trade id would delete requests (T4)
		uncleanElection:  kadm.StringPtr("false"),  // a replica that lags lacks acknowledged records (T3)
		largestBatch:     kadm.StringPtr(strconv.Itoa(openBytes)),
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

// CheckTopic returns the identity of a topic that has the number of partitions expected (rules T1, T2).
// Errors: one that wraps checks.ErrWrong for a topic that is missing or has another number of partitions; any other means
// that the brokers can't tell now.
func CheckTopic(ctx context.Context, client *kgo.Client, topic string, partitions int) (trade.TopicID, error) {
	detail, _, err := metadata(ctx, client, topic)
	switch {
	case errors.Is(err, errNoTopic):
		return trade.TopicID{}, fmt.Errorf("%w: topic %s expected with %d partitions, seen: %w", checks.ErrWrong, topic, partitions, err)
	case err != nil:
		return trade.TopicID{}, err
	case len(detail.Partitions) != partitions:
		return trade.TopicID{}, fmt.Errorf("%w: topic %s expected with %d partitions, seen: %d", checks.ErrWrong, topic, partitions, len(detail.Partitions))
	}
	return detail.TopicID, nil
}
