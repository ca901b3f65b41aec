package kafka

import (
	"context"
	"errors"
	"maps"
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

// fixture is a topic with three partitions of ten records. The positions are in the middle of each.
type fixture struct {
	t         *testing.T
	client    *kgo.Client
	admin     *kadm.Client
	positions []trade.Position
	posErr    error
	check     LogCheck
}

const perPartition = 10

func newFixture(t *testing.T, cfg Config) *fixture {
	t.Helper()
	return newReplicatedFixture(t, cfg, 1, 1)
}

func newReplicatedFixture(t *testing.T, cfg Config, replication, inSync int) *fixture {
	t.Helper()
	spec := TopicSpec{Partitions: 3, Replication: replication, MinISR: inSync, Retention: 72 * time.Hour}
	id, err := CreateTopic(limit(t, time.Minute), cfg, spec)
	require.NoError(t, err)
	s := &fixture{t: t, client: producer(t, cfg, prometheus.NewRegistry())}
	s.admin = kadm.NewClient(s.client)
	s.fill(cfg.Topic, 3)
	for p := range int32(3) {
		position := trade.Position{TopicID: id, Generation: 1, Partition: p, NextOffset: perPartition / 2}
		s.positions = append(s.positions, position)
	}
	s.check = LogCheck{
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

// result returns the check of that name. The list has the same rows each time.
func (s *fixture) result(name string) checks.Check {
	s.t.Helper()
	list := s.check.Checks(limit(s.t, 30*time.Second), s.client)
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

// failed returns the names of the failed checks, with what they saw.
func (s *fixture) failed() map[string]string {
	s.t.Helper()
	found := map[string]string{}
	for _, c := range s.check.Checks(limit(s.t, 30*time.Second), s.client) {
		require.NotEqual(s.t, checks.Unknown, c.Status, c)
		if c.Status == checks.Failed {
			found[c.Name] = c.Seen
		}
	}
	return found
}

func (s *fixture) alter(name, value string) {
	s.t.Helper()
	change := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: &value}}
	_, err := s.admin.AlterTopicConfigs(limit(s.t, time.Minute), change, s.check.Topic)
	require.NoError(s.t, err)
}

// Names of the checks that the tests name.
const (
	topicID         = "id of the topic"
	topicPartitions = "partitions of the topic"
	positionRows    = "partitions with a position"
	generationRow   = "generation of the topic"
	positionsWithin = "positions within the log"
	positionEpochs  = "epochs of the positions"
	topicReplicas   = "replicas of each partition"
)

// seen holds the checks that must fail, and a part of what each must have seen.
type seen = map[string]string

// spoilFunc makes something wrong with the fixture.
type spoilFunc func(t *testing.T, s *fixture)

// spoiled breaks something and requires exactly the given checks to fail, on the embedded broker and on Apache Kafka.
func spoiled(t *testing.T, name string, spoil spoilFunc, want seen) {
	t.Helper()
	run := func(t *testing.T, s *fixture) {
		require.Empty(t, s.failed(), "before")
		spoil(t, s)
		var last map[string]string
		require.Eventually(t, func() bool { // a change by an admin reaches a broker a moment later
			last = s.failed()
			return matches(last, want)
		}, 30*time.Second, 50*time.Millisecond, "%v", &last)
	}
	t.Run(name+"/embedded", func(t *testing.T) { run(t, newFixture(t, config(broker(t), "check"))) })
	t.Run(name+"/apache", func(t *testing.T) {
		cfg := apache(t, "check")
		cfg.Topic = "checks-" + strings.NewReplacer("/", "-", " ", "-").Replace(t.Name())
		run(t, newFixture(t, cfg))
	})
}

// Rules T1, T2 and T5: each check passes when all is well, and fails for its own fault.
func TestLogCheck(t *testing.T) {
	t.Parallel()
	f := func(name string, spoil spoilFunc, want seen) { t.Helper(); spoiled(t, name, spoil, want) }
	deleteBelow := func(offset int64) spoilFunc {
		return func(t *testing.T, s *fixture) {
			var gone kadm.Offsets
			gone.AddOffset(s.check.Topic, 2, offset, -1)
			_, err := s.admin.DeleteRecords(limit(t, time.Minute), gone)
			require.NoError(t, err)
		}
	}
	f("nothing wrong", func(*testing.T, *fixture) {}, nil)
	f("another topic", func(_ *testing.T, s *fixture) { s.positions[0].TopicID[0]++ }, seen{topicID: ""})
	f("made again", func(t *testing.T, s *fixture) {
		ctx := limit(t, time.Minute)
		_, err := s.admin.DeleteTopic(ctx, s.check.Topic)
		require.NoError(t, err)
		cfg := Config{Brokers: s.client.OptValue(kgo.SeedBrokers).([]string), Topic: s.check.Topic, ClientID: "again"}
		require.Eventually(t, func() bool {
			id, err := CreateTopic(ctx, cfg, TopicSpec{Partitions: 3, Replication: 1})
			return err == nil && id != s.positions[0].TopicID
		}, time.Minute, 50*time.Millisecond)
		s.alter("retention.ms", "1000000")
	}, seen{topicID: "", positionsWithin: "position 5 of partition 0, whose log reaches from 0 to 0",
		positionEpochs: "position 5 in partition 0"})
	f("partition added", func(t *testing.T, s *fixture) {
		_, err := s.admin.UpdatePartitions(limit(t, time.Minute), 4, s.check.Topic)
		require.NoError(t, err)
	}, seen{topicPartitions: "4"})
	f("configured otherwise", func(_ *testing.T, s *fixture) { s.check.Partitions = 6 },
		seen{topicPartitions: "3", positionRows: "3"})
	f("a position too few", func(_ *testing.T, s *fixture) { s.positions = s.positions[:2] }, seen{positionRows: "2"})
	f("position past the end", func(_ *testing.T, s *fixture) { s.positions[1].NextOffset = perPartition + 1 },
		seen{positionsWithin: "position 11 of partition 1, whose log reaches from 0 to 10",
			positionEpochs: "position 11 in partition 1"})
	f("position at the end", func(_ *testing.T, s *fixture) { s.positions[1].NextOffset = perPartition }, nil)
	f("records lost below the position", deleteBelow(perPartition/2+1),
		seen{positionsWithin: "position 5 of partition 2, whose log reaches from 6 to 10"})
	f("records gone up to the position", deleteBelow(perPartition/2), nil)
	f("an epoch that is still to come", func(_ *testing.T, s *fixture) { s.positions[0].LeaderEpoch = 7 },
		seen{positionEpochs: "epoch 7 of position 5 in partition 0"})
	f("nothing applied yet", func(_ *testing.T, s *fixture) {
		for p := range s.positions {
			s.positions[p].NextOffset, s.positions[p].LeaderEpoch = 0, -1
		}
	}, nil)
}

// Rules T3, T4 and K5: the settings of the topic.
func TestLogCheckOfTheSettings(t *testing.T) {
	t.Parallel()
	f := func(name string, spoil spoilFunc, want seen) { t.Helper(); spoiled(t, name, spoil, want) }
	set := func(name, value string) spoilFunc {
		return func(_ *testing.T, s *fixture) { s.alter(name, value) }
	}
	f("compacted", set("cleanup.policy", "compact"), seen{"cleanup.policy": "compact"})
	f("records too small", set(maxBytesSetting, "1000011"), seen{maxBytesSetting: "1000011"})
	f("records just large enough", set(maxBytesSetting, "1000012"), nil)
	production := func(outcomes time.Duration) spoilFunc {
		return func(_ *testing.T, s *fixture) { s.check.Production, s.check.OutcomeRetention = true, outcomes }
	}
	oneReplica := seen{topicReplicas: "1", "min.insync.replicas": "1"}
	f("one broker in production", production(7*24*time.Hour), oneReplica)
	f("outcomes kept too short", production(4*24*time.Hour), with(oneReplica, "retention.ms", "72h0m0s"))
	f("outcomes kept just long enough", production(4*24*time.Hour+time.Millisecond), oneReplica)
	f("outcomes are for others", production(0), oneReplica)
	f("kept for ever", func(t *testing.T, s *fixture) {
		s.alter("retention.ms", "-1")
		production(7*24*time.Hour)(t, s)
	}, with(oneReplica, "retention.ms", "unlimited"))
	f("kept for ever on one machine", set("retention.ms", "-1"), nil)
}

func with(m seen, key, value string) seen {
	m = maps.Clone(m)
	m[key] = value
	return m
}

// matches says whether exactly the wanted checks failed, each with its text in what it saw.
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
	for _, c := range s.check.Checks(limit(s.t, 5*time.Second), s.client) {
		found[c.Name] = c.Status
	}
	return found
}

// A check is Unknown if its part could not be read, and only then (rule T8).
func TestLogCheckThatCanNotBeMade(t *testing.T) {
	t.Parallel()
	f := func(name string, spoil func(*fixture, *kfake.Cluster), unknown ...string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			cluster := broker(t)
			s := newFixture(t, config(cluster, "check"))
			s.check.Production = true // so that every row counts
			expected := s.statuses()
			for _, name := range unknown {
				require.Contains(t, expected, name)
				expected[name] = checks.Unknown
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
	const autoCreate = "auto.create.topics.enable"
	settings := []string{"min.insync.replicas", uncleanElectionSetting, "cleanup.policy", maxBytesSetting, "retention.ms"}
	f("nothing wrong", func(*fixture, *kfake.Cluster) {})
	f("ends of the log", fault(kmsg.ListOffsets), positionsWithin, positionEpochs)
	f("epochs", fault(kmsg.OffsetForLeaderEpoch), positionEpochs)
	f("settings", fault(kmsg.DescribeConfigs), append(settings, autoCreate)...)
	f("positions", func(s *fixture, _ *kfake.Cluster) { s.posErr = errors.New("no database") },
		topicID, generationRow, positionRows, positionsWithin, positionEpochs)
	f("no broker", func(_ *fixture, cluster *kfake.Cluster) { cluster.Close() }, append(settings,
		"topic trades", topicID, topicPartitions, topicReplicas, autoCreate, positionsWithin, positionEpochs)...)
}

func TestLogCheckWithoutATopicOrItsPositions(t *testing.T) {
	t.Parallel()
	s := newFixture(t, config(broker(t), "check"))
	s.posErr = trade.Classed(trade.Broken, "run tradestore migrate")
	want := checks.Compare("T1", generationRow, "the newest", "run tradestore migrate", false)
	require.Equal(t, want, s.result(generationRow))
	require.Equal(t, checks.Unknown, s.result(positionRows).Status)
	require.Equal(t, checks.Unknown, s.result(topicID).Status)
	s.check.Topic = "other"
	require.Equal(t, checks.Compare("T1", "topic other", "there", "no such topic", false), s.result("topic other"))
	require.Equal(t, checks.Unknown, s.result("cleanup.policy").Status)
	err := checks.Err(s.check.Checks(limit(t, 30*time.Second), s.client))
	require.ErrorIs(t, err, checks.ErrWrong)
}

// A setting that the broker does not know is shown, but is no failure.
func TestASettingThatTheBrokerDoesNotKnowIsSkipped(t *testing.T) {
	t.Parallel()
	s := newFixture(t, config(broker(t), "check"))
	s.check.Production = true
	const name = "auto.create.topics.enable"
	require.Equal(t, checks.Skip("T4", name, "false", "the broker does not know this setting"), s.result(name))
}

// Three brokers, as in production.
func TestLogCheckOfThreeBrokers(t *testing.T) {
	t.Parallel()
	s := newReplicatedFixture(t, config(broker(t, kfake.NumBrokers(3)), "check"), 3, 2)
	s.check.Production = true
	require.Empty(t, s.failed())
	f := func(inSync string, want checks.Status) {
		t.Helper()
		s.alter("min.insync.replicas", inSync)
		require.Equal(t, want, s.result("min.insync.replicas").Status)
	}
	f("1", checks.Failed)
	f("2", checks.OK)
	f("3", checks.Failed)
}

// A log that moves while it is checked is not taken for a broken one.
func TestALogThatMovesIsNotBroken(t *testing.T) {
	t.Parallel()
	s := newFixture(t, config(broker(t), "check"))
	s.check.Positions = func(ctx context.Context) ([]trade.Position, error) { // the worker gets on, and retention follows
		s.fill(s.check.Topic, 3)
		var gone kadm.Offsets
		for p := range s.positions {
			gone.AddOffset(s.check.Topic, int32(p), s.positions[p].NextOffset, -1)
			s.positions[p].NextOffset += perPartition
		}
		_, err := s.admin.DeleteRecords(ctx, gone)
		return s.positions, err
	}
	for range 3 {
		require.Empty(t, s.failed())
	}
}

// While a broker is killed and restarted, checks are Unknown: none of them fails.
func TestABrokerThatComesBackFailsNoCheck(t *testing.T) {
	broker := stack.ApacheKafka(t)
	s := newFixture(t, Config{Brokers: broker.Addrs(), Topic: "trades", ClientID: "check"})
	for p := range s.positions {
		s.positions[p].NextOffset = perPartition
	}
	require.NoError(t, checks.Err(s.check.Checks(limit(t, 30*time.Second), s.client)))
	broker.Kill()
	back := make(chan error, 1)
	go func() { back <- broker.Restart(t.Context()) }()
	for ctx := limit(t, time.Minute); ; {
		err := checks.Err(s.check.Checks(limit(t, 2*time.Second), s.client))
		require.NotErrorIs(t, err, checks.ErrWrong)
		if err == nil {
			break
		}
		require.NoError(t, ctx.Err(), err)
	}
	require.NoError(t, <-back)
}

// A position of a truncated log is found by its epoch.
func TestTruncated(t *testing.T) {
	t.Parallel()
	f := func(stored, newest int32, end, endEpoch int64, want bool) {
		t.Helper()
		s := logState{ends: map[int32]offset{0: {100, newest}}, epochs: map[int32]offset{0: {end, int32(endEpoch)}}}
		require.Equal(t, want, s.truncated(trade.Position{NextOffset: 50, LeaderEpoch: stored}))
	}
	f(3, 3, 100, 3, false) // the epoch goes on
	f(3, 5, 50, 3, false)  // it ended where we are
	f(3, 5, 49, 3, true)   // it ended before: our last record is not there
	f(3, 5, 60, 2, true)   // it is not there at all
	f(6, 5, 100, 5, true)  // it is still to come
	f(3, 5, -1, -1, false) // the broker does not know
	f(3, -1, 50, 3, false) // an old broker tells no epochs with its offsets
	f(-1, 5, 0, 0, false)  // nothing was applied
	require.False(t, (&logState{}).truncated(trade.Position{LeaderEpoch: -1}))
}
