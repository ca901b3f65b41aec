package kafka

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/internal/checks"
)

func TestCreateTopicTwiceIsTheSameTopic(t *testing.T) {
	t.Parallel()
	cluster := broker(t)
	cfg, ctx := config(cluster, "migrate"), limit(t, 20*time.Second)
	spec := TopicSpec{Partitions: 6, Replication: 1, MinISR: 1, Retention: 72 * time.Hour}
	first, err := CreateTopic(ctx, cfg, spec)
	require.NoError(t, err)
	require.NotZero(t, first)
	again, err := CreateTopic(ctx, cfg, spec)
	require.NoError(t, err)
	assert.Equal(t, first, again)

	info := cluster.TopicInfo("trades")
	require.NotNil(t, info)
	assert.Equal(t, "259200000", *info.Configs["retention.ms"])
	assert.Equal(t, "delete", *info.Configs["cleanup.policy"])

	spec.Partitions = 7
	_, err = CreateTopic(ctx, cfg, spec)
	require.ErrorIs(t, err, checks.ErrWrong)
	require.ErrorContains(t, err, "expected with 7 partitions, seen: 6")

	spec.Partitions = 0
	cfg.Topic = "other"
	_, err = CreateTopic(ctx, cfg, spec)
	require.ErrorContains(t, err, "cannot create topic other")
}

func TestCheckTopicTellsFalseFromUnknown(t *testing.T) {
	cluster := broker(t)
	cfg, ctx := config(cluster, "server"), limit(t, 20*time.Second)
	p := producer(t, cfg, prometheus.NewRegistry())
	_, err := CheckTopic(ctx, p, "trades", 3)
	require.ErrorIs(t, err, checks.ErrWrong)
	require.ErrorContains(t, err, "no such topic")

	id, err := CreateTopic(ctx, cfg, TopicSpec{Partitions: 3})
	require.NoError(t, err)
	seen, err := CheckTopic(ctx, p, "trades", 3)
	require.NoError(t, err)
	assert.Equal(t, id, seen)

	require.NoError(t, cluster.DeleteTopic("trades"))
	made, err := CreateTopic(ctx, cfg, TopicSpec{Partitions: 3})
	require.NoError(t, err)
	assert.NotEqual(t, id, made, "a topic made again is another topic")

	cluster.Close()
	_, err = CheckTopic(limit(t, 500*time.Millisecond), p, "trades", 3)
	require.Error(t, err)
	require.NotErrorIs(t, err, checks.ErrWrong)
	_, err = CreateTopic(limit(t, 500*time.Millisecond), cfg, TopicSpec{Partitions: 3})
	require.Error(t, err)
}
