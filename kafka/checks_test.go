package kafka

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tradestore/internal/checks"
	"tradestore/test/stack"
	"tradestore/trade"
)

// site is a topic with three partitions of ten records, applied up to their middle.
type fixture struct {
	t         *testing.T
	client    *kgo.Client
	admin     *kadm.Client
	positions []trade.Position
	posErr    error
	topo      LogCheck
}

const perPartition = 10

func newFixture(t *testing.T, cfg Config) *fixture {
	t.Helper()
	return newReplicatedFixture(t, cfg, TopicSpec{Partitions: 3, Replication: 1, MinISR: 1, Retention: 72 * time.Hour})
}

func newReplicatedFixture(t *testing.T, cfg Config, spec TopicSpec) *fixture {
	t.Helper()
	ctx := limit(t, time.Minute)
	id, err := CreateTopic(ctx, cfg, spec)
	require.NoError(t, err)
	s := &fixture{t: t, client: producer(t, cfg, prometheus.NewRegistry())}
	s.admin = kadm.NewClient(s.client)
	s.fill(cfg.Topic, 3)
	for p := range int32(3) {
		s.positions = append(s.positions, trade.Position{TopicID: id, Generation: 1, Partition: p, NextOffset: perPartition / 2})
	}
	s.topo = LogCheck{
		Topic: cfg.Topic, Partitions: 3, OutcomeRetention: 7 * 24 * time.Hour,
		Positions: func(context.Context) ([]trade.Position, error) { return s.positions, s.posErr },
	}
	return s
}

func (s *fixture) fill(topic string, partitions int32) {
	s.t.Helper()
	var records []*kgo.Record
	for i := range perPartition * partitions {
		records = append(records, &kgo.Record{Topic: topic, Partition: i % partitions, Value: []byte("{}")})
	}
	require.NoError(s.t, s.client.ProduceSync(limit(s.t, time.Minute), records...).FirstErr())
}

// check returns the result of the check of that name. The list has the same rows each time.
func (s *fixture) check(name string) checks.Check {
	s.t.Helper()
	list := s.topo.Checks(limit(s.t, 30*time.Second), s.client)
	require.Len(s.t, list, 14)
	for _, c := range list {
		require.NotEmpty(s.t, c.Expected, c.Name)
		require.NotEmpty(s.t, c.Seen, c.Name)
		if c.Name == name {
			return c
		}
	}
	require.Fail(s.t, "no check "+name)
	return checks.Check{}
}

// failed returns the names of the checks that failed, with what they saw.
func (s *fixture) failed() map[string]string {
	s.t.Helper()
	found := map[string]string{}
	for _, c := range s.topo.Checks(limit(s.t, 30*time.Second), s.client) {
		require.NotEqual(s.t, checks.Unknown, c.Status, c)
		if c.Status == checks.Failed {
			found[c.Name] = c.Seen
		}
	}
	return found
}

func (s *fixture) alter(name, value string) {
	s.t.Helper()
	_, err := s.admin.AlterTopicConfigs(limit(s.t, time.Minute), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: &value}}, s.topo.Topic)
	require.NoError(s.t, err)
}

// Rules T1 to T5, each as it has to be and not. The embedded broker and Apache Kafka tell the same.
func TestLogCheck(t *testing.T) {
	f := func(name string, spoil func(*testing.T, *fixture), want map[string]string) {
		t.Helper()
		run := func(t *testing.T, s *fixture) {
			require.Empty(t, s.failed(), "before")
			spoil(t, s)
			var last map[string]string
			require.Eventually(t, func() bool { // what an admin does reaches a broker a moment later
				last = s.failed()
				return matches(last, want)
			}, 30*time.Second, 50*time.Millisecond, "%v", &last)
		}
		t.Run(name+"/embedded", func(t *testing.T) { run(t, newFixture(t, config(broker(t), "check"))) })
		t.Run(name+"/apache", func(t *testing.T) {
			cfg := apache(t, "check")
			cfg.Topic = "checks-" + strings.ReplaceAll(strings.SplitN(t.Name(), "/", 2)[1], "/", "-")
			run(t, newFixture(t, cfg))
		})
	}
	f("nothing wrong", func(*testing.T, *fixture) {}, nil)
	f("another topic", func(_ *testing.T, s *fixture) { s.positions[0].TopicID[0]++ }, map[string]string{"id of the topic": ""})
	f("made again", func(t *testing.T, s *fixture) {
		ctx := limit(t, time.Minute)
		_, err := s.admin.DeleteTopic(ctx, s.topo.Topic)
		require.NoError(t, err)
		cfg := Config{Brokers: s.client.OptValue(kgo.SeedBrokers).([]string), Topic: s.topo.Topic, ClientID: "again"}
		require.Eventually(t, func() bool {
			id, err := CreateTopic(ctx, cfg, TopicSpec{Partitions: 3, Replication: 1})
			return err == nil && id != s.positions[0].TopicID
		}, time.Minute, 50*time.Millisecond)
		s.alter("retention.ms", "1000000")
	}, map[string]string{"id of the topic": "", "positions within the log": "position 5 of partition 0, whose log reaches from 0 to 0", "epochs of the positions": "position 5 in partition 0"})
	f("partition added", func(t *testing.T, s *fixture) {
		_, err := s.admin.UpdatePartitions(limit(t, time.Minute), 4, s.topo.Topic)
		require.NoError(t, err)
	}, map[string]string{"partitions of the topic": "4"})
	f("configured otherwise", func(_ *testing.T, s *fixture) { s.topo.Partitions = 6 }, map[string]string{"partitions of the topic": "3", "partitions with a position": "3"})
	f("a position too few", func(_ *testing.T, s *fixture) { s.positions = s.positions[:2] }, map[string]string{"partitions with a position": "2"})
	f("compacted", func(_ *testing.T, s *fixture) { s.alter("cleanup.policy", "compact") }, map[string]string{"cleanup.policy": "compact"})
	f("records too small", func(_ *testing.T, s *fixture) { s.alter("max.message.bytes", "1000011") }, map[string]string{"max.message.bytes": "1000011"})
	f("records just large enough", func(_ *testing.T, s *fixture) { s.alter("max.message.bytes", "1000012") }, nil)
	f("position past the end", func(_ *testing.T, s *fixture) { s.positions[1].NextOffset = perPartition + 1 },
		map[string]string{"positions within the log": "position 11 of partition 1, whose log reaches from 0 to 10", "epochs of the positions": "position 11 in partition 1"})
	f("position at the end", func(_ *testing.T, s *fixture) { s.positions[1].NextOffset = perPartition }, nil)
	f("records lost below the position", func(t *testing.T, s *fixture) {
		var gone kadm.Offsets
		gone.AddOffset(s.topo.Topic, 2, perPartition/2+1, -1)
		_, err := s.admin.DeleteRecords(limit(t, time.Minute), gone)
		require.NoError(t, err)
	}, map[string]string{"positions within the log": "position 5 of partition 2, whose log reaches from 6 to 10"})
	f("records gone up to the position", func(t *testing.T, s *fixture) {
		var gone kadm.Offsets
		gone.AddOffset(s.topo.Topic, 2, perPartition/2, -1)
		_, err := s.admin.DeleteRecords(limit(t, time.Minute), gone)
		require.NoError(t, err)
	}, nil)
	f("an epoch that is still to come", func(_ *testing.T, s *fixture) { s.positions[0].LeaderEpoch = 7 }, map[string]string{"epochs of the positions": "epoch 7 of position 5 in partition 0"})
	f("nothing applied yet", func(_ *testing.T, s *fixture) {
		for p := range s.positions {
			s.positions[p].NextOffset, s.positions[p].LeaderEpoch = 0, -1
		}
	}, nil)
	production := func(outcomes time.Duration) func(*testing.T, *fixture) {
		return func(_ *testing.T, s *fixture) { s.topo.Production, s.topo.OutcomeRetention = true, outcomes }
	}
	lone := map[string]string{"replicas of each partition": "1", "min.insync.replicas": "1"}
	f("one broker in production", production(7*24*time.Hour), lone)
	f("outcomes kept too short", production(4*24*time.Hour), with(lone, "retention.ms", "72h0m0s"))
	f("outcomes kept just long enough", production(4*24*time.Hour+time.Millisecond), lone)
	f("outcomes are for others", production(0), lone)
	f("kept for ever", func(t *testing.T, s *fixture) {
		s.alter("retention.ms", "-1")
		production(7*24*time.Hour)(t, s)
	}, with(lone, "retention.ms", "unlimited"))
	f("kept for ever on one machine", func(_ *testing.T, s *fixture) { s.alter("retention.ms", "-1") }, nil)
}

func with(m map[string]string, key, value string) map[string]string {
	all := map[string]string{key: value}
	for k, v := range m {
		all[k] = v
	}
	return all
}

// matches says whether exactly the checks named failed, each seeing the text.
func matches(failed, want map[string]string) bool {
	if len(failed) != len(want) {
		return false
	}
	for name, text := range want {
		if seen, ok := failed[name]; !ok || !strings.Contains(seen, text) {
			return false
		}
	}
	return true
}

// statuses returns the results by name.
func (s *fixture) statuses() map[string]checks.Status {
	s.t.Helper()
	found := map[string]checks.Status{}
	for _, c := range s.topo.Checks(limit(s.t, 5*time.Second), s.client) {
		found[c.Name] = c.Status
	}
	return found
}

// What can't be told is unknown, and nothing else is (rule T8).
func TestLogCheckThatCanNotBeMade(t *testing.T) {
	f := func(name string, spoil func(*fixture, *kfake.Cluster), want map[string]checks.Status) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			cluster := broker(t)
			s := newFixture(t, config(cluster, "check"))
			s.topo.Production = true // so that every row counts
			expected := s.statuses()
			for name, status := range want {
				require.Contains(t, expected, name)
				expected[name] = status
			}
			spoil(s, cluster)
			require.Equal(t, expected, s.statuses())
		})
	}
	fault := func(key kmsg.Key) func(*fixture, *kfake.Cluster) {
		return func(_ *fixture, cluster *kfake.Cluster) {
			cluster.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Count: -1, Err: kerr.TopicAuthorizationFailed})
		}
	}
	all := func(status checks.Status, names ...string) map[string]checks.Status {
		m := map[string]checks.Status{}
		for _, name := range names {
			m[name] = status
		}
		return m
	}
	topicSettings := []string{"min.insync.replicas", "unclean.leader.election.enable", "cleanup.policy", "max.message.bytes", "retention.ms"}
	f("nothing wrong", func(*fixture, *kfake.Cluster) {}, nil)
	f("ends of the log", fault(kmsg.ListOffsets), all(checks.Unknown, "positions within the log", "epochs of the positions"))
	f("epochs", fault(kmsg.OffsetForLeaderEpoch), all(checks.Unknown, "epochs of the positions"))
	f("settings", fault(kmsg.DescribeConfigs), all(checks.Unknown, append(topicSettings, "auto.create.topics.enable")...))
	f("positions", func(s *fixture, _ *kfake.Cluster) { s.posErr = errors.New("no database") },
		all(checks.Unknown, "id of the topic", "generation of the topic", "partitions with a position", "positions within the log", "epochs of the positions"))

	every := append([]string{"topic trades", "id of the topic", "partitions of the topic", "replicas of each partition", "auto.create.topics.enable",
		"positions within the log", "epochs of the positions"}, topicSettings...)
	f("no broker", func(_ *fixture, cluster *kfake.Cluster) { cluster.Close() }, all(checks.Unknown, every...))
}

func TestLogCheckWithoutATopicOrItsPositions(t *testing.T) {
	s := newFixture(t, config(broker(t), "check"))
	s.posErr = trade.Classed(trade.Broken, "run tradestore migrate")
	require.Equal(t, checks.Compare("T1", "generation of the topic", "the newest", "run tradestore migrate", false), s.check("generation of the topic"))
	require.Equal(t, checks.Unknown, s.check("partitions with a position").Status)
	require.Equal(t, checks.Unknown, s.check("id of the topic").Status)
	s.topo.Topic = "other"
	require.Equal(t, checks.Compare("T1", "topic other", "there", "no such topic", false), s.check("topic other"))
	require.Equal(t, checks.Unknown, s.check("cleanup.policy").Status)
	err := checks.Err(s.topo.Checks(limit(t, 30*time.Second), s.client))
	require.ErrorIs(t, err, checks.ErrWrong)
}

// A setting that the broker does not know is shown and does not count.
func TestASettingThatTheBrokerDoesNotKnowIsSkipped(t *testing.T) {
	s := newFixture(t, config(broker(t), "check"))
	s.topo.Production = true
	const name = "auto.create.topics.enable"
	require.Equal(t, checks.Skip("T4", name, "false", "the broker does not know this setting"), s.check(name))
}

// A cluster as production has it.
func TestLogCheckOfThreeBrokers(t *testing.T) {
	s := newReplicatedFixture(t, config(broker(t, kfake.NumBrokers(3)), "check"), TopicSpec{Partitions: 3, Replication: 3, MinISR: 2, Retention: 72 * time.Hour})
	s.topo.Production = true
	require.Empty(t, s.failed())
	f := func(inSync string, want checks.Status) {
		t.Helper()
		s.alter("min.insync.replicas", inSync)
		require.Equal(t, want, s.check("min.insync.replicas").Status)
	}
	f("1", checks.Failed)
	f("2", checks.OK)
	f("3", checks.Failed)
}

// A log that moves while it is looked at is not mistaken for a broken one.
func TestALogThatMovesIsNotBroken(t *testing.T) {
	s := newFixture(t, config(broker(t), "check"))
	s.topo.Positions = func(ctx context.Context) ([]trade.Position, error) { // the worker gets on, and retention follows
		s.fill(s.topo.Topic, 3)
		var gone kadm.Offsets
		for p := range s.positions {
			gone.AddOffset(s.topo.Topic, int32(p), s.positions[p].NextOffset, -1)
			s.positions[p].NextOffset += perPartition
		}
		_, err := s.admin.DeleteRecords(ctx, gone)
		return s.positions, err
	}
	for range 3 {
		require.Empty(t, s.failed())
	}
}

// A broker that is killed and comes back is an outage all the time: it never tells of another topic or a shorter log.
func TestABrokerThatComesBackFailsNoCheck(t *testing.T) {
	broker := stack.ApacheKafka(t)
	s := newFixture(t, Config{Brokers: broker.Addrs(), Topic: "trades", ClientID: "check"})
	for p := range s.positions {
		s.positions[p].NextOffset = perPartition
	}
	require.NoError(t, checks.Err(s.topo.Checks(limit(t, 30*time.Second), s.client)))
	broker.Kill()
	back := make(chan error, 1)
	go func() { back <- broker.Restart(t.Context()) }()
	for ctx := limit(t, time.Minute); ; {
		err := checks.Err(s.topo.Checks(limit(t, 2*time.Second), s.client))
		require.NotErrorIs(t, err, checks.ErrWrong)
		if err == nil {
			break
		}
		require.NoError(t, ctx.Err(), err)
	}
	require.NoError(t, <-back)
}

func TestAPositionWhoseRecordIsAnotherOneIsFound(t *testing.T) {
	f := func(stored, newest int32, end, endEpoch int64, want bool) {
		t.Helper()
		s := observed{ends: map[int32]offset{0: {100, newest}}, epochs: map[int32]offset{0: {end, int32(endEpoch)}}}
		require.Equal(t, want, s.wasCut(trade.Position{NextOffset: 50, LeaderEpoch: stored}))
	}
	f(3, 3, 100, 3, false) // the epoch goes on
	f(3, 5, 50, 3, false)  // it ended where we are
	f(3, 5, 49, 3, true)   // it ended before: our last record is not there
	f(3, 5, 60, 2, true)   // it is not there at all
	f(6, 5, 100, 5, true)  // it is still to come
	f(3, 5, -1, -1, false) // the broker does not know
	f(3, -1, 50, 3, false) // an old broker tells no epochs with its offsets
	f(-1, 5, 0, 0, false)  // nothing was applied
	require.False(t, (&observed{}).wasCut(trade.Position{LeaderEpoch: -1}))
}
