package main

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"

	"tradestore/kafka"
	"tradestore/test/stack"
)

// What the limit sends differs in nothing that a broker could notice.
func TestLimitAndProducerSendTheSame(t *testing.T) {
	made, copied := encoded("T")(), copies("T")()
	require.Equal(t, made.Topic, copied.Topic)
	require.Equal(t, made.Partition, copied.Partition)
	require.Equal(t, made.Key, copied.Key)
	require.Equal(t, made.Value, copied.Value)
	require.Len(t, copied.Headers, len(made.Headers))
	for i, h := range made.Headers {
		require.Equal(t, h.Key, copied.Headers[i].Key)
		require.Len(t, copied.Headers[i].Value, len(h.Value)) // ids and times are of another call
	}
}

func TestPumpCountsWhatTheBrokerHas(t *testing.T) {
	cfg := kafka.Config{Brokers: stack.Kafka(t), Topic: "pump", ClientID: "pump"}
	_, err := kafka.CreateTopic(t.Context(), cfg, kafka.TopicSpec{Partitions: partitions})
	require.NoError(t, err)
	raw, err := newRawProducer(cfg)
	require.NoError(t, err)
	defer raw.Close()
	ours, err := kafka.NewProducer(cfg, prometheus.NewRegistry(), zerolog.Nop())
	require.NoError(t, err)
	defer ours.Close()
	limit, err := pumpRecords(raw, copies(cfg.Topic))(t.Context(), 50*time.Millisecond)
	require.NoError(t, err)
	own, err := pumpRecords(ours, encoded(cfg.Topic))(t.Context(), 50*time.Millisecond)
	require.NoError(t, err)
	require.Positive(t, limit.rate)
	require.Positive(t, own.rate)

	ends, err := kadm.NewClient(raw).ListEndOffsets(t.Context(), cfg.Topic)
	require.NoError(t, err)
	var have float64
	ends.Each(func(o kadm.ListedOffset) {
		require.Positive(t, o.Offset, "partition %d", o.Partition)
		have += float64(o.Offset)
	})
	require.Equal(t, limit.count+own.count, have)
}

// A record that is not delivered is no throughput.
func TestPumpFailsWithTheBroker(t *testing.T) {
	cfg := kafka.Config{Brokers: stack.Kafka(t), Topic: "missing", ClientID: "pump", DeliveryTimeout: time.Second}
	ours, err := kafka.NewProducer(cfg, prometheus.NewRegistry(), zerolog.Nop())
	require.NoError(t, err)
	defer ours.Close()
	_, err = pumpRecords(ours, encoded(cfg.Topic))(t.Context(), 50*time.Millisecond)
	require.ErrorContains(t, err, "cannot deliver")
}
