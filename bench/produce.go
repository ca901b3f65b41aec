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

// produce compares the server's producer with what the Kafka client can do at best, on each broker.
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

// plenty is more records under way than a broker needs to be busy.
const maxUnderWay = 50_000

// producers makes a topic, and the limit and our producer on it: with as many records under way as the limit has, which
// shows what encoding costs, and with no more than the server lets in, which is what it can use.
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
	s := stage{title: title, unit: "records", limit: &series{name: "kgo, records made beforehand", run: pumpRecords(raw, copies(name))}}
	for _, underWay := range []int{maxUnderWay, queueItems} {
		cfg.MaxBufferedRecords = underWay
		ours, err := kafka.NewProducer(cfg, prometheus.NewRegistry(), zerolog.Nop())
		if err != nil {
			return stage{}, err
		}
		h.onStop(ours.Close)
		s.ours = append(s.ours, &series{name: "our producer, " + thousands(float64(underWay)) + " under way", run: pumpRecords(ours, encoded(name))})
	}
	return s, nil
}

// newRawProducer is the client with the promise of ours, acks of all and no duplicates, on the same partitions. Otherwise
// it is as it comes, and may wait for more records to send at once.
func newRawProducer(cfg kafka.Config) (*kgo.Client, error) {
	c, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.ClientID(cfg.ClientID+"-raw"), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MaxBufferedRecords(maxUnderWay))
	if err != nil {
		return nil, fmt.Errorf("cannot make a Kafka client: %w", err)
	}
	return c, nil
}

// pump hands records to a producer for the time given, never more at once than it buffers, and counts those that were
// acknowledged until the last one was.
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

// requests returns some as the server makes them, over all partitions.
func requests() []trade.Request {
	now := time.Now().UTC().Truncate(time.Microsecond)
	all := make([]trade.Request, 4096)
	for i := range all {
		id := "B0-1767312000-255-" + strconv.Itoa(10_000+i) // as long as those of the other parts
		all[i] = newRequest(now, i, id, 1, partitions)
	}
	return all
}

// newRequest is the i-th, for the trade and version given, as the server accepts it.
func newRequest(now time.Time, i int, id string, version int32, partitions int) trade.Request {
	return trade.Request{
		ID: trade.NewRequestID(now), AcceptedAt: now, BusinessDate: trade.DateOf(now), Partition: kafka.Partition(id, partitions),
		CorrelationID: "6f6c2a39-0b3d-4a55-9a86-0f4f1f4d5f0e",
		Trade: trade.Trade{TradeID: id, Version: version, CounterpartyID: "CP-" + strconv.Itoa(i%97), BookID: "B-" + strconv.Itoa(i%13),
			MaturityDate: trade.DateOf(now) + 100_000, CreatedDate: trade.DateOf(now)},
	}
}

// encoded makes each record anew, as the server has to.
func encoded(topic string) func() *kgo.Record {
	all, i := requests(), 0
	return func() *kgo.Record {
		i++
		return kafka.Encode(topic, &all[i%len(all)])
	}
}

// copies returns records with the same bytes, made before.
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
