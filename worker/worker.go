// Package worker applies the log: each lane polls, decodes, stores and commits. Beside the lanes, a projector copies
// outcomes to the request store, an orphan reaper closes requests that never reached the log, and a sweeper deletes
// what is past its retention.
package worker

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kadm"
	"golang.org/x/sync/errgroup"

	"tradestore/internal/telemetry"
	"tradestore/kafka"
	"tradestore/trade"
)

// Worker is one member process of the group of workers. Several may run at once, on any machines: they share the
// partitions, and the fence in the store makes a member harmless that lost a partition and does not know it (rule A1).
type Worker struct {
	cfg     Config
	deps    Deps
	log     zerolog.Logger
	health  health
	metrics *metrics
	observe *observer
	retries *retrier
	topic   *topicReader
	gate    *applyGate
	lanes   []*lane
	commits chan struct{} // signalled when a lane committed outcomes that the projector has to copy
}

// New makes a worker; Run starts it. Nothing is connected yet. Errors: settings that can't be used, metrics that are
// registered already.
func New(cfg Config, deps Deps) (*Worker, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, fmt.Errorf("cannot make a worker: %w", err)
	}
	if deps.Shown == nil {
		deps.Shown = func() {}
	}
	w := &Worker{cfg: cfg, deps: deps, log: deps.Log, commits: make(chan struct{}, 1)}
	w.gate = newApplyGate(cfg.SlowTransaction)
	w.metrics = newMetrics(w)
	w.observe = &observer{
		metrics: w.metrics, tracer: deps.Tracer, sampled: telemetry.Sampled(deps.Log), now: deps.Now, topic: cfg.Kafka.Topic,
	}
	w.retries = &retrier{min: cfg.RetryMin, max: cfg.RetryMax, health: &w.health, log: w.log}
	w.topic = &topicReader{
		store: deps.Store, name: cfg.Kafka.Topic, partitions: cfg.Partitions, timeout: cfg.TransactionLimit,
	}
	w.health.set("start", "starting")
	for n := range cfg.Lanes {
		w.lanes = append(w.lanes, newLane(w, n))
	}
	if err := w.metrics.Register(deps.Registry, "the worker"); err != nil {
		return nil, err
	}
	return w, nil
}

// Ready says why the worker does not apply, or nil when it does.
func (w *Worker) Ready() error { return w.health.err() }

// Run applies the log until ctx ends, then drains and returns nil. Any other return is a loud stop (rule T9): an
// assumption does not hold, nothing was changed by the batch in hand, and going on would hide loss. It waits for stores
// that are down, without end. Run may be called once.
func (w *Worker) Run(ctx context.Context) error {
	err := w.run(ctx)
	w.health.set("stop", "stopped")
	if err != nil {
		w.metrics.stopped.Set(1)
		w.log.Error().Err(err).Stringer("class", trade.ClassOf(err)).
			Msg("worker stopped: nothing of the batch in hand was changed")
	}
	return err
}

func (w *Worker) run(ctx context.Context) error {
	cfg := w.cfg.Kafka
	cfg.ClientID += "-admin"
	admin, err := kafka.NewProducer(cfg, w.deps.Registry, w.log)
	if err != nil {
		return err
	}
	defer admin.Close()
	w.topic.admin = admin
	if err := w.start(ctx); err != nil {
		return unlessDone(ctx, err)
	}
	w.health.clear("start")
	w.log.Info().Str("topic", cfg.Topic).Int("partitions", w.cfg.Partitions).Int("lanes", w.cfg.Lanes).
		Msg("worker started")

	projector := w.newProjector()
	parts, running := errgroup.WithContext(ctx)
	start := func(run func(context.Context) error) {
		parts.Go(func() error { return recoverPanic(func() error { return run(running) }) })
	}
	for _, l := range w.lanes {
		start(l.run)
	}
	start(newOrphanReaper(w).run)
	for _, run := range []func(context.Context){w.watchEnds, projector.run, w.sweep, w.summarize} {
		start(func(ctx context.Context) error { run(ctx); return nil })
	}
	err = parts.Wait()
	w.health.set("drain", "draining")
	if err == nil {
		projector.drain(ctx)
	}
	w.leave(ctx)
	return err
}

func (w *Worker) newProjector() *projector {
	return &projector{
		cfg: w.cfg, log: w.log, journal: w.deps.Journal, requests: w.deps.Requests, atCommit: w.deps.OutcomesAtCommit,
		notify: w.deps.Shown, assigned: w.assigned, commits: w.commits, retries: w.retries, observe: w.observe,
		limit: w.cfg.ProjectLimit, held: map[int32]*holdBack{},
	}
}

// recoverPanic turns a panic into a loud stop: what it left undone is not known, so nothing may go on from there.
func recoverPanic(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = trade.Classed(trade.Broken, "panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}

// start waits until everything that must hold before the first poll does hold. Errors: one that waiting does not mend,
// or the end of ctx.
func (w *Worker) start(ctx context.Context) error {
	// A journal row of a day without a partition would go to the default partition, and be moved from there later.
	if err := w.retries.do(ctx, "make the days of the journal", func(ctx context.Context) error {
		return w.deps.Maintainer.MakeDays(ctx, w.deps.Now())
	}); err != nil {
		return err
	}
	return w.retries.do(ctx, "read the positions", func(ctx context.Context) error {
		positions, err := w.topic.positions(ctx)
		if err == nil {
			w.topic.identity = positions[0]
		}
		return err
	})
}

// onCommit is called when a lane committed outcomes: it wakes the calls that wait for them, or the projector.
func (w *Worker) onCommit() {
	if w.deps.OutcomesAtCommit {
		w.deps.Shown()
	} else {
		signal(w.commits)
	}
}

// watchEnds reads now and then where the held partitions end, for the metrics: the lanes can't while they wait for the
// store.
func (w *Worker) watchEnds(ctx context.Context) {
	for wait(ctx, w.cfg.CheckInterval) {
		limited, cancel := context.WithTimeout(ctx, w.cfg.CheckInterval)
		ends, err := w.topic.ends(limited)
		cancel()
		for _, l := range w.lanes {
			ends.Each(func(end kadm.ListedOffset) { l.assigned.noteEnd(end.Partition, end.Offset) })
		}
		if err == nil {
			err = ends.Error()
		}
		if err != nil && ctx.Err() == nil {
			w.metrics.retries.WithLabelValues("check").Inc()
			w.log.Warn().Err(err).Msg("cannot read how far the log reaches")
		}
	}
}

// assigned returns the partitions that the lanes hold now, each once, ascending.
func (w *Worker) assigned() []int32 {
	var all []int32
	for _, l := range w.lanes {
		all = append(all, l.assigned.partitions()...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// leave commits the lanes' positions as lag hints and leaves the group, so that others take over at once.
func (w *Worker) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.cfg.DrainLimit)
	defer cancel()
	var all sync.WaitGroup
	for _, l := range w.lanes {
		all.Go(func() { l.leave(ctx) })
	}
	all.Wait()
}
