package kafka

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tradestore/internal/checks"
)

// onBoth runs a test on the embedded broker and on Apache Kafka.
func onBoth(t *testing.T, test func(t *testing.T, s *fixture)) {
	t.Helper()
	t.Run("embedded", func(t *testing.T) { test(t, newFixture(t, config(broker(t, kfake.NumBrokers(3)), "migrate"))) })
	t.Run("apache", func(t *testing.T) {
		cfg := apache(t, "migrate")
		cfg.Topic = fmt.Sprintf("close-%d", time.Now().UnixNano()) // the run before has left its records
		test(t, newFixture(t, cfg))
	})
}

func (s *fixture) ends() []int64 {
	s.t.Helper()
	ends, err := Ends(limit(s.t, time.Minute), s.client, s.check.Topic, 3)
	require.NoError(s.t, err)
	return ends
}

// A closed topic refuses every record at once and keeps what it has; an open one takes them again (rule T10).
func TestAClosedTopicTakesNoRecords(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *fixture) {
		ctx, topic := limit(t, time.Minute), s.check.Topic
		require.Equal(t, []int64{perPartition, perPartition, perPartition}, s.ends())
		post := func(partition int32) error {
			return s.client.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: partition, Value: []byte("{}")}).FirstErr()
		}
		wasClosed, err := OpenTopic(ctx, s.client, topic)
		require.NoError(t, err)
		require.False(t, wasClosed)
		require.ErrorContains(t, checkClosed(ctx, s.client, topic), "answers: CORRUPT_MESSAGE", "no broker keeps the batch")

		for range 2 { // repeating it is safe
			require.NoError(t, CloseTopic(ctx, s.client, topic))
			for p := range int32(3) {
				require.ErrorIs(t, post(p), kerr.MessageTooLarge)
			}
		}
		require.Equal(t, []int64{perPartition, perPartition, perPartition}, s.ends())
		size := s.result(maxBytesSetting)
		require.Equal(t, checks.Failed, size.Status, "roles of a closed topic stop")
		require.Contains(t, size.Seen, "--new-generation")

		wasClosed, err = OpenTopic(ctx, s.client, topic)
		require.NoError(t, err)
		require.True(t, wasClosed)
		require.Eventually(t, func() bool {
			return s.result(maxBytesSetting).Status == checks.OK && post(0) == nil
		}, time.Minute, 50*time.Millisecond)
		require.Equal(t, []int64{perPartition + 1, perPartition, perPartition}, s.ends())
	})
}

// A producer that was sending when the topic closed knows for every record whether it is in the log.
func TestClosingATopicUnderLoadLosesNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, s *fixture) {
		ctx, topic := limit(t, time.Minute), s.check.Topic
		const rounds = 3
		for range rounds {
			before := sum(s.ends())
			results := make(chan error, 100_000)
			sent, stop := 0, make(chan struct{})
			done := make(chan struct{})
			go func() {
				defer close(done)
				for ; sent < cap(results); sent++ {
					select {
					case <-stop:
						return
					default:
					}
					r := &kgo.Record{Topic: topic, Partition: int32(sent % 3), Value: []byte("{}")}
					s.client.Produce(context.Background(), r, func(_ *kgo.Record, err error) { results <- err })
					if sent%100 == 0 { // some at a time
						_ = s.client.Flush(ctx)
					}
				}
			}()
			require.Eventually(t, func() bool { return sum(s.ends()) > before }, time.Minute, time.Millisecond)
			require.NoError(t, CloseTopic(ctx, s.client, topic))
			closed := sum(s.ends())
			close(stop)
			<-done
			require.NoError(t, s.client.Flush(ctx))
			taken := int64(0)
			for range sent {
				if err := <-results; err == nil {
					taken++
				}
			}
			require.Equal(t, closed, sum(s.ends()), "records were taken after it was closed")
			require.Equal(t, taken, closed-before, "a record lies below the end, or its producer was told that it does not")
			t.Logf("%d of %d taken", taken, sent)
			_, err := OpenTopic(ctx, s.client, topic)
			require.NoError(t, err)
			require.Eventually(t, func() bool {
				return s.client.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("{}")}).FirstErr() == nil
			}, time.Minute, 50*time.Millisecond)
		}
	})
}

func sum(list []int64) (n int64) {
	for _, v := range list {
		n += v
	}
	return n
}

// A refusal and a missing answer are errors that say so. The topic then does not count as closed.
func TestATopicThatCanNotBeClosed(t *testing.T) {
	f := func(name string, request kmsg.Key, spoil func(kmsg.Response), want string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			cluster := broker(t)
			s := newFixture(t, config(cluster, "migrate"))
			cluster.ControlKey(request.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				resp := req.ResponseKind()
				spoil(resp)
				return resp, nil, true
			})
			require.ErrorContains(t, CloseTopic(limit(t, 500*time.Millisecond), s.client, s.check.Topic), want)
		})
	}
	f("not allowed", kmsg.IncrementalAlterConfigs, func(r kmsg.Response) {
		one := kmsg.NewIncrementalAlterConfigsResponseResource()
		one.ResourceType, one.ResourceName = kmsg.ConfigResourceTypeTopic, "trades"
		one.ErrorCode = kerr.TopicAuthorizationFailed.Code
		resp := r.(*kmsg.IncrementalAlterConfigsResponse)
		resp.Resources = append(resp.Resources, one)
	}, "cannot close topic trades: cannot set max.message.bytes to 1: TOPIC_AUTHORIZATION_FAILED")
	f("no word of a partition", kmsg.Produce, func(kmsg.Response) {}, "answers for 0 of 3 partitions")
	f("still open", kmsg.Produce, func(r kmsg.Response) {
		one := kmsg.NewProduceResponseTopicPartition()
		one.ErrorCode = kerr.CorruptMessage.Code
		partitions := []kmsg.ProduceResponseTopicPartition{one}
		r.(*kmsg.ProduceResponse).Topics = []kmsg.ProduceResponseTopic{{Topic: "trades", Partitions: partitions}}
	}, "partition 0 answers: CORRUPT_MESSAGE")
	f("no leader", kmsg.Metadata, func(r kmsg.Response) {
		one := kmsg.NewMetadataResponseTopic()
		one.Topic = kmsg.StringPtr("trades")
		one.Partitions = []kmsg.MetadataResponseTopicPartition{{ErrorCode: kerr.LeaderNotAvailable.Code}}
		r.(*kmsg.MetadataResponse).Topics = append(r.(*kmsg.MetadataResponse).Topics, one)
	}, "partition 0 has no leader")
}

// A broker that does not know the setting against unclean elections gets the topic without it.
func TestCreateTopicWithoutASettingThatTheBrokerDoesNotKnow(t *testing.T) {
	t.Parallel()
	cluster := broker(t)
	cluster.ControlKey(kmsg.CreateTopics.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		create := req.(*kmsg.CreateTopicsRequest)
		unclean := func(c kmsg.CreateTopicsRequestTopicConfig) bool { return c.Name == uncleanElectionSetting }
		if !slices.ContainsFunc(create.Topics[0].Configs, unclean) {
			return nil, nil, false
		}
		resp := create.ResponseKind().(*kmsg.CreateTopicsResponse)
		one := kmsg.NewCreateTopicsResponseTopic()
		one.Topic, one.ErrorCode = create.Topics[0].Topic, kerr.InvalidConfig.Code
		resp.Topics = append(resp.Topics, one)
		return resp, nil, true
	})
	cfg := config(cluster, "migrate")
	_, err := CreateTopic(limit(t, time.Minute), cfg, TopicSpec{Partitions: 2})
	require.NoError(t, err)
	configs := cluster.TopicInfo("trades").Configs
	assert.NotContains(t, configs, uncleanElectionSetting)
	assert.Equal(t, "1048576", *configs[maxBytesSetting])
}
