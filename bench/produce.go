package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/kafka"
	"tradestore/trade"
)

// produce compares the producer of the server with the Kafka client alone, on each broker.
func produce(ctx context.Context, h *harness, r *results) error {
	h.say("starting the embedded broker")
	_, at, err := h.self(ctx, "the embedded broker", nil, "broker", onDisk, filepath.Join(h.dir, "broker"))
	if err != nil {
		return err
	}
	embedded, err := h.producers(ctx, "Kafka: produce, embedded broker", at.Brokers)
	if err != nil {
		return err
	}
	stages := []stage{embedded}
	if h.kafka != nil {
		apache, err := h.producers(ctx, "Kafka: produce, Apache Kafka", h.kafka.Addrs())
		if err != nil {
			return err
		}
		stages = append(stages, apache)
	}
	if err := h.measure(ctx, true, stages...); err != nil {
		return err
	}
	r.add(stages...)
	return nil
}

// maxUnderWay is enough records in flight to keep a broker busy.
const maxUnderWay = 50_000

// producers makes a topic, the limit and our producer. Ours runs with as many records in flight as the limit, which
// shows the cost of encoding, and with as many as the server allows.
func (h *harness) producers(ctx context.Context, title string, brokers []string) (stage, error) {
	const name = "bench-produce"
	cfg := kafka.Config{Brokers: brokers, Topic: name, ClientID: name}
	if _, err := kafka.CreateTopic(ctx, cfg, kafka.TopicSpec{Partitions: partitions}); err != nil {
		return stage{}, err
	}
	raw, err := newRawProducer(cfg)
	if err != nil {
		return stage{}, err
	}
	h.onStop(raw.Close)
	s := stage{title: title, unit: "records", limit: &series{name: "kgo, records made beforehand",
		run: pumpRecords(raw, copies(name))}}
	for _, underWay := range []int{maxUnderWay, queueItems} {
		cfg.MaxBufferedRecords = underWay
		ours, err := kafka.NewProducer(cfg, prometheus.NewRegistry(), zerolog.Nop())
		if err != nil {
			return stage{}, err
		}
		h.onStop(ours.Close)
		s.ours = append(s.ours, &series{name: "our producer, " + thousands(float64(underWay)) + " under way",
			run: pumpRecords(ours, encoded(name))})
	}
	return s, nil
}

// newRawProducer is a client with our guarantees (acks of all replicas, no duplicates), manual partitions and otherwise
// default settings.
func newRawProducer(cfg kafka.Config) (*kgo.Client, error) {
	c, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.ClientID(cfg.ClientID+"-raw"),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.MaxBufferedRecords(maxUnderWay))
	if err != nil {
		return nil, fmt.Errorf("cannot make a Kafka client: %w", err)
	}
	return c, nil
}

// pumpRecords produces records for a time and counts the acknowledged ones, up to the last acknowledgement.
func pumpRecords(client *kgo.Client, next func() *kgo.Record) func(context.Context, time.Duration) (sample, error) {
	return func(ctx context.Context, hold time.Duration) (sample, error) {
		var acknowledged atomic.Int64
		var failure atomic.Pointer[error]
		done := func(_ *kgo.Record, err error) {
			if err != nil {
				failure.CompareAndSwap(nil, &err)
				return
			}
			acknowledged.Add(1)
		}
		m, err := newMeter(nil)
		if err != nil {
			return sample{}, err
		}
		began := time.Now()
		for time.Since(began) < hold && failure.Load() == nil {
			for range 100 { // between two looks at the clock
				client.Produce(ctx, next(), done)
			}
		}
		if err := client.Flush(ctx); err != nil {
			return sample{}, fmt.Errorf("cannot deliver: %w", err)
		}
		if err := failure.Load(); err != nil {
			return sample{}, fmt.Errorf("cannot deliver: %w", *err)
		}
		s := sample{count: float64(acknowledged.Load()), lasted: time.Since(began)}
		s.rate = s.count / s.lasted.Seconds()
		s.cpu, err = m.read()
		return s, err
	}
}

// requests returns requests like those of the server, over all partitions.
func requests() []trade.Request {
	now := time.Now().UTC().Truncate(time.Microsecond)
	all := make([]trade.Request, 4096)
	for i := range all {
		id := "B0-1767312000-255-" + strconv.Itoa(10_000+i) // as long as those of the other parts
		all[i] = newRequest(now, i, id, 1, partitions)
	}
	return all
}

// newRequest makes the i-th request, for a trade id and version.
func newRequest(now time.Time, i int, id string, version int32, partitions int) trade.Request {
	return trade.Request{
		ID: trade.NewRequestID(now), AcceptedAt: now, BusinessDate: trade.DateOf(now),
		Partition:     kafka.Partition(id, partitions),
		CorrelationID: "6f6c2a39-0b3d-4a55-9a86-0f4f1f4d5f0e",
		Trade: trade.Trade{TradeID: id, Version: version, CounterpartyID: "CP-" + strconv.Itoa(i%97),
			BookID:       "B-" + strconv.Itoa(i%13),
			MaturityDate: trade.DateOf(now) + 100_000, CreatedDate: trade.DateOf(now)},
	}
}

// encoded encodes each record anew, as the server does.
func encoded(topic string) func() *kgo.Record {
	all, i := requests(), 0
	return func() *kgo.Record {
		i++
		return kafka.Encode(topic, &all[i%len(all)])
	}
}

// copies returns records with the same bytes, encoded before.
func copies(topic string) func() *kgo.Record {
	var made []*kgo.Record
	for _, q := range requests() {
		made = append(made, kafka.Encode(topic, &q))
	}
	i := 0
	return func() *kgo.Record {
		i++
		m := made[i%len(made)]
		return &kgo.Record{Topic: topic, Partition: m.Partition, Key: m.Key, Value: m.Value, Headers: m.Headers}
	}
}
