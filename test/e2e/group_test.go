package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The group offset is a lag hint: moved by hand, it moves nothing else (A8).
func TestGroupOffsetMovedByHand(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, s *deployment) {
		s.start(t)
		require.NoError(t, InstallAudit(t.Context(), s.Database))
		s.run(t.Context(), t, load{clients: 8, posts: 400, hot: 20})
		for _, to := range []int64{0, 1_000_000} {
			s.drained(t)
			s.named("worker1").Terminate(t)
			s.named("worker2").Terminate(t)
			s.moveGroup(t, to)
			s.start(t)
			s.run(t.Context(), t, load{clients: 8, posts: 100, hot: 20})
		}
		s.check(t)
		s.stop(t)
	}, onReal)
}

// moveGroup commits an offset for every partition of the topic in the workers' name. The group must be empty.
func (s *deployment) moveGroup(t *testing.T, to int64) {
	t.Helper()
	kc, err := kgo.NewClient(kgo.SeedBrokers(s.Kafka...))
	require.NoError(t, err)
	defer kc.Close()
	offsets := kadm.Offsets{}
	for p := range int32(partitions) {
		offsets.AddOffset(s.Topic, p, to, -1)
	}
	require.NoError(t, kadm.NewClient(kc).CommitAllOffsets(t.Context(), s.group, offsets))
}

// balanced waits until the members, one for each lane of a worker, share the partitions and no rebalance is under way.
func (s *deployment) balanced(t *testing.T, members int) {
	t.Helper()
	kc, err := kgo.NewClient(kgo.SeedBrokers(s.Kafka...))
	require.NoError(t, err)
	defer kc.Close()
	var seen kadm.DescribedGroup
	ok := poll(t, drainLimit, func() bool {
		groups, err := kadm.NewClient(kc).DescribeGroups(t.Context(), s.group)
		require.NoError(t, err)
		seen = groups[s.group]
		assigned := 0
		for _, m := range seen.Members {
			if parts, ok := m.Assigned.AsConsumer(); ok {
				for _, topic := range parts.Topics {
					assigned += len(topic.Partitions)
				}
			}
		}
		return seen.State == "Stable" && len(seen.Members) == members && assigned == partitions
	})
	require.True(t, ok, "%s with %d members", seen.State, len(seen.Members))
}
