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

// drainPoll is short compared with a drain, and long compared with one read of the positions.
const drainPoll = 10 * time.Millisecond

// appliedQuery returns how many records of the log are applied.
const appliedQuery = "SELECT coalesce(sum(next_offset), 0)::float8 FROM ingest_offsets"

// storeEnv is a topic on Apache Kafka and a database for it, which workers drain.
type storeEnv struct {
	topic      string
	partitions int
	database   string   // URL
	env        []string // of the roles
	records    int      // of each drain
	tradesMade int      // trades so far, numbered
	filled     bool     // keep the rows of its tables
}

// newEnv makes an empty environment for drains of so many records. Topic, group and database have this name.
func (h *harness) newEnv(ctx context.Context, name string, partitions, records int) (*storeEnv, error) {
	h.say("making topic and database %s", name)
	database, err := h.database(ctx, name)
	if err != nil {
		return nil, err
	}
	settings, err := h.migrate(ctx, name, database, fmt.Sprintf("TRADESTORE_PARTITIONS=%d", partitions))
	return &storeEnv{topic: name, partitions: partitions, database: database, env: settings, records: records}, err
}

// exec executes a statement in the database.
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

// tradeSource returns the trade of a number.
type tradeSource func(number int) (id string, version int32)

// workers describes the workers of a drain.
type workers struct {
	args  []string // flags of each
	count int
}

// newDrains is drainNew as a series. A drain ignores the requested time.
func (h *harness) newDrains(name string, e *storeEnv, spec workers, trades tradeSource) *series {
	return &series{name: name, run: func(ctx context.Context, _ time.Duration) (sample, error) {
		return h.drainNew(ctx, e, spec, trades)
	}}
}

// drainNew drains new trades, into empty tables unless the environment is filled.
func (h *harness) drainNew(ctx context.Context, e *storeEnv, spec workers, trades tradeSource) (sample, error) {
	if !e.filled {
		if err := e.exec(ctx, "TRUNCATE trades, journal"); err != nil {
			return sample{}, err
		}
	}
	e.tradesMade += e.records
	return h.drain(ctx, e, spec, e.tradesMade-e.records, trades)
}

// drain measures how fast workers drain a topic: it starts them, freezes them, fills the topic with the trades from
// number first on, and resumes them. So the result does not include the start. The clock runs from the first to the
// last change of the positions.
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
		_ = w.Signal(s) // an ended process shows later
	}
}

// startWorkers starts workers and waits until they share all partitions. It returns the started ones also with an
// error.
func (h *harness) startWorkers(ctx context.Context, e *storeEnv, spec workers) (workers []*child, err error) {
	var addresses []string
	for range spec.count {
		address, err := freeAddress()
		if err != nil {
			return workers, err
		}
		w, err := h.start("tradestore worker", h.program, e.env, append([]string{"worker", "--listen", address},
			spec.args...)...)
		if err != nil {
			return workers, err
		}
		workers, addresses = append(workers, w), append(addresses, address)
		if err := w.awaitReady(ctx, address); err != nil {
			return workers, err
		}
	}
	const cause = "the workers do not share the partitions"
	return workers, poll(ctx, storedPoll, startLimit, cause, func(ctx context.Context) bool {
		return partitionsShared(ctx, addresses, e.partitions)
	})
}

// partitionsShared says whether all partitions are assigned, and as many workers as possible have one.
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

// fillTopic produces the records of a drain, with the trades from number first on.
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

// measureProgress follows a position until it has grown by all. The first change starts the clock and does not count,
// unless it is also the last: then the clock started with the read before.
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
