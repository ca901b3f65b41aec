package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/kafka"
)

// drainPoll is short against a drain, and long against the look at the positions that it stands between.
const drainPoll = 10 * time.Millisecond

// appliedQuery tells how many records of the log are applied.
const appliedQuery = "SELECT coalesce(sum(next_offset), 0)::float8 FROM ingest_offsets"

// site is a topic on Apache Kafka and a database, made for each other: what workers drain.
type storeEnv struct {
	topic      string
	partitions int
	database   string   // URL
	env        []string // of the roles
	records    int      // of each drain
	tradesMade int      // trades so far: each has a number
	filled     bool     // its tables hold rows that are to stay
}

// newSite makes one, empty, for drains of so many records. The name is that of topic, group and database.
func (h *harness) newEnv(ctx context.Context, name string, partitions, records int) (*storeEnv, error) {
	h.say("making topic and database %s", name)
	database, err := h.database(ctx, name)
	if err != nil {
		return nil, err
	}
	settings, err := h.migrate(ctx, name, database, fmt.Sprintf("TRADESTORE_PARTITIONS=%d", partitions))
	return &storeEnv{topic: name, partitions: partitions, database: database, env: settings, records: records}, err
}

// exec executes a statement in the database of a site.
func (e *storeEnv) exec(ctx context.Context, statement string, args ...any) error {
	conn, hangUp, err := connect(ctx, e.database)
	if err != nil {
		return err
	}
	defer hangUp()
	if _, err := conn.Exec(ctx, statement, args...); err != nil {
		return fmt.Errorf("cannot run %.40q: %w", statement, err)
	}
	return nil
}

// flow says what the trade of each number is.
type tradeSource func(number int) (id string, version int32)

// workers is the workers of a drain.
type workers struct {
	args  []string // flags of each
	count int
}

// newDrains is drainNew as a series: a drain lasts as long as it takes.
func (h *harness) newDrains(name string, e *storeEnv, spec workers, trades tradeSource) *series {
	return &series{name: name, run: func(ctx context.Context, _ time.Duration) (sample, error) { return h.drainNew(ctx, e, spec, trades) }}
}

// drainNew drains trades that nobody sent before, into empty tables unless they are to stay filled.
func (h *harness) drainNew(ctx context.Context, e *storeEnv, spec workers, trades tradeSource) (sample, error) {
	if !e.filled {
		if err := e.exec(ctx, "TRUNCATE trades, journal"); err != nil {
			return sample{}, err
		}
	}
	e.tradesMade += e.records
	return h.drain(ctx, e, spec, e.tradesMade-e.records, trades)
}

// drain measures how fast workers get through trades that lie in the topic: they are started, frozen while the topic is
// filled with the trades from a number on, and thawed. So neither their start nor their group is in it; the clock runs from
// the first move of the positions that was seen to the last.
func (h *harness) drain(ctx context.Context, e *storeEnv, spec workers, first int, trades tradeSource) (sample, error) {
	conn, hangUp, err := connect(ctx, e.database)
	if err != nil {
		return sample{}, err
	}
	defer hangUp()
	position := func() (sum float64, err error) {
		err = conn.QueryRow(ctx, appliedQuery).Scan(&sum)
		return sum, err
	}
	workers, err := h.startWorkers(ctx, e, spec)
	defer func() {
		for _, w := range workers {
			w.stop()
		}
	}()
	if err != nil {
		return sample{}, err
	}
	before, err := position()
	if err != nil {
		return sample{}, fmt.Errorf("cannot read the positions: %w", err)
	}
	signalAll(workers, syscall.SIGSTOP)
	err = h.fillTopic(ctx, e, first, trades)
	signalAll(workers, syscall.SIGCONT)
	if err != nil {
		return sample{}, err
	}
	return measureProgress(ctx, position, before, float64(e.records))
}

func signalAll(workers []*child, s syscall.Signal) {
	for _, w := range workers {
		_ = w.cmd.Process.Signal(s) // one that has ended is missed soon
	}
}

// hire starts workers and waits until each holds a share of the partitions and nobody else holds any. Those that were
// started are returned with an error as well.
func (h *harness) startWorkers(ctx context.Context, e *storeEnv, spec workers) (workers []*child, err error) {
	var addresses []string
	for range spec.count {
		address, err := freeAddress()
		if err != nil {
			return workers, err
		}
		w, err := h.start("tradestore worker", h.program, e.env, append([]string{"worker", "--listen", address}, spec.args...)...)
		if err != nil {
			return workers, err
		}
		workers, addresses = append(workers, w), append(addresses, address)
		if err := w.awaitReady(ctx, address); err != nil {
			return workers, err
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, errors.New("the workers do not share the partitions"))
	defer cancel()
	poll := time.NewTicker(storedPoll)
	defer poll.Stop()
	for !partitionsShared(ctx, addresses, e.partitions) {
		select {
		case <-poll.C:
		case <-ctx.Done():
			return workers, context.Cause(ctx)
		}
	}
	return workers, nil
}

// shared says whether all partitions are held, and some of them by each worker that can have one.
func partitionsShared(ctx context.Context, addresses []string, partitions int) bool {
	held, idle := 0, 0
	for _, address := range addresses {
		page, err := get(ctx, "http://"+address+"/metrics")
		if err != nil {
			return false
		}
		own := bytes.Count(page, []byte("\ntradestore_apply_position{"))
		held += own
		if own == 0 {
			idle++
		}
	}
	return held == partitions && idle == max(0, len(addresses)-partitions)
}

// fill produces as many records as a drain has, with the trades from the number given on.
func (h *harness) fillTopic(ctx context.Context, e *storeEnv, first int, trades tradeSource) error {
	cfg := kafka.Config{Brokers: h.kafka.Addrs(), Topic: e.topic, ClientID: "bench-fill", MaxBufferedRecords: maxUnderWay}
	client, err := kafka.NewProducer(cfg, prometheus.NewRegistry(), zerolog.Nop())
	if err != nil {
		return err
	}
	defer client.Close()
	var failed kgo.FirstErrPromise
	for i := first; i < first+e.records; i++ {
		id, version := trades(i)
		request := newRequest(time.Now().UTC().Truncate(time.Microsecond), i, id, version, e.partitions)
		client.Produce(ctx, kafka.Encode(e.topic, &request), failed.Promise())
	}
	if err := failed.Err(); err != nil {
		return fmt.Errorf("cannot fill topic %s: %w", e.topic, err)
	}
	return nil
}

// moves follows a position until it has moved by as much as given. The first move that is seen starts the clock and does
// not count, unless it is the last as well: then the clock started with the look before.
func measureProgress(ctx context.Context, position func() (float64, error), before, all float64) (sample, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, storedLimit, errors.New("the workers do not get through"))
	defer cancel()
	poll := time.NewTicker(drainPoll)
	defer poll.Stop()
	began, uncounted := time.Now(), 0.0
	for {
		now, err := position()
		if err != nil {
			return sample{}, fmt.Errorf("cannot read the positions: %w", err)
		}
		switch moved := now - before; {
		case moved >= all:
			s := sample{count: all - uncounted, lasted: time.Since(began)}
			s.rate = s.count / s.lasted.Seconds()
			return s, nil
		case moved == 0:
			began = time.Now()
		case uncounted == 0:
			began, uncounted = time.Now(), moved
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return sample{}, fmt.Errorf("%w: %.0f of %.0f records applied", context.Cause(ctx), now-before, all)
		}
	}
}
