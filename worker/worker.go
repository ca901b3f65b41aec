// Package worker applies the log: each lane polls, decodes, stores and commits; beside them a projector shows outcomes to
// clients, a orphan reaper closes requests that never reached the log, and a sweeper deletes what is past its retention.
package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"tradestore/internal/checks"
	"tradestore/internal/telemetry"
	"tradestore/kafka"
	"tradestore/trade"
)

// Worker is one member process of the group of workers. Several may run at once, on any machines: they share the
// partitions, and the fence in the store keeps a member harmless that lost a partition without knowing it.
type Worker struct {
	cfg     Config
	deps    Deps
	log     zerolog.Logger
	each    zerolog.Logger // sampled: lines about single requests, of which a spoiled log or an outage makes very many
	metrics *metrics
	health  health
	admin   *kgo.Client
	lanes   []*lane
	gate    *applyGate
	nudge   chan struct{} // a lane committed: there are outcomes to project; nil if they are visible at once

	topic trade.Position // identity and generation of the topic; set once, before the lanes start
}

// New makes a worker; Run starts it. Nothing is connected yet. Errors: settings that can't be right, metrics that are
// registered already.
func New(cfg Config, deps Deps) (*Worker, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, fmt.Errorf("cannot make a worker: %w", err)
	}
	if deps.Shown == nil {
		deps.Shown = func() {}
	}
	w := &Worker{cfg: cfg, deps: deps, log: deps.Log, gate: newApplyGate(cfg.SlowTransaction)}
	w.each = telemetry.Sampled(deps.Log)
	if !deps.OutcomesAtCommit {
		w.nudge = make(chan struct{}, 1)
	}
	w.health.set("start", "starting")
	for n := range cfg.Lanes {
		w.lanes = append(w.lanes, newLane(w, n))
	}
	if w.metrics, err = newMetrics(deps.Registry, w); err != nil {
		return nil, err
	}
	w.metrics.atCommit = deps.OutcomesAtCommit
	return w, nil
}

// Ready says why the worker does not apply, or nil when it does.
func (w *Worker) Ready() error { return w.health.err() }

// Run applies the log until ctx ends, then drains and returns nil. Any other return is a loud stop: what the worker
// relies on does not hold, nothing was changed by the batch in hand, and going on would hide loss. Stores that are down
// are waited for, without end. Run may be called once.
func (w *Worker) Run(ctx context.Context) error {
	err := w.run(ctx)
	w.health.set("stop", "stopped")
	if err != nil {
		w.metrics.stopped.Set(1)
		w.log.Error().Err(err).Stringer("class", trade.ClassOf(err)).Msg("worker stopped: nothing of the batch in hand was changed")
	}
	return err
}

func (w *Worker) run(ctx context.Context) error {
	cfg := w.cfg.Kafka
	cfg.ClientID += "-admin"
	var err error
	if w.admin, err = kafka.NewProducer(cfg, w.deps.Registry, w.log); err != nil {
		return err
	}
	defer w.admin.Close()
	if err := w.start(ctx); err != nil {
		return unlessDone(ctx, err)
	}
	w.health.clear("start")
	w.log.Info().Str("topic", cfg.Topic).Int("partitions", w.cfg.Partitions).Int("lanes", w.cfg.Lanes).Msg("worker started")

	all, inner := errgroup.WithContext(ctx)
	for _, l := range w.lanes {
		all.Go(func() error { return guard(func() error { return l.run(inner) }) })
	}
	all.Go(func() error { return guard(func() error { w.watch(inner); return nil }) })
	all.Go(func() error { return guard(func() error { w.project(inner); return nil }) })
	all.Go(func() error { return guard(func() error { return newOrphanReaper(w).run(inner) }) })
	all.Go(func() error { return guard(func() error { w.sweep(inner); return nil }) })
	err = all.Wait()
	w.health.set("drain", "draining")
	if err == nil {
		w.projectRest(ctx)
	}
	w.leave(ctx)
	return err
}

// guard turns a panic into a loud stop: what it left undone is not known, so nothing may go on from there.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = trade.Classed(trade.Broken, "panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}

// start waits until everything that must hold before the first poll does hold. Errors: one that can't be mended by
// waiting, or the end of ctx.
func (w *Worker) start(ctx context.Context) error {
	// A journal row of a day without a partition would land in the default one and had to be moved later.
	if err := w.retry(ctx, "make the days of the journal", func(ctx context.Context) error {
		return w.deps.Maintainer.MakeDays(ctx, w.deps.Now())
	}); err != nil {
		return err
	}
	return w.retry(ctx, "read the positions", func(ctx context.Context) error {
		positions, err := w.positions(ctx)
		if err == nil {
			w.topic = positions[0]
		}
		return err
	})
}

// checkTopic is for where a rule rests on the topic at one moment: that it is the one whose positions the store keeps, with
// the partitions that it had (rules T1, T2).
func (w *Worker) checkTopic(ctx context.Context) error {
	id, err := kafka.CheckTopic(ctx, w.admin, w.cfg.Kafka.Topic, w.cfg.Partitions)
	if err != nil {
		return err
	}
	return w.checkID(id)
}

// checkID compares the topic that a fetch came from with the one whose positions the store keeps (rule T1). One made
// again between two rounds of the checks starts at offset 0: its records would be skipped in silence.
func (w *Worker) checkID(id trade.TopicID) error {
	if id == w.topic.TopicID {
		return nil
	}
	return trade.Classed(trade.Broken, "%w: topic %s expected with id %x, as in the store, seen: %x",
		checks.ErrWrong, w.cfg.Kafka.Topic, w.topic.TopicID, id)
}

// positions reads the positions of all partitions, one for each, of one topic. Later calls expect the same topic.
func (w *Worker) positions(ctx context.Context) ([]trade.Position, error) {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.TransactionLimit)
	defer cancel()
	all, err := w.deps.Store.Positions(ctx)
	if err != nil {
		return nil, err
	}
	if len(all) != w.cfg.Partitions {
		return nil, trade.Classed(trade.Broken, "%w: positions of %d partitions expected in the store, seen: %d", checks.ErrWrong, w.cfg.Partitions, len(all))
	}
	expected := cmp.Or(w.topic, all[0])
	for i, p := range all {
		if p.TopicID != expected.TopicID || p.Generation != expected.Generation || p.Partition != int32(i) {
			return nil, trade.Classed(trade.Broken, "%w: position of partition %d of topic %x, generation %d expected in the store, seen: partition %d of %x, generation %d",
				checks.ErrWrong, i, expected.TopicID, expected.Generation, p.Partition, p.TopicID, p.Generation)
		}
	}
	return all, nil
}

// watch learns now and then how far the log reaches, which the lanes can't while they wait for the store.
func (w *Worker) watch(ctx context.Context) {
	for wait(ctx, w.cfg.CheckInterval) {
		limited, cancel := context.WithTimeout(ctx, w.cfg.CheckInterval)
		err := w.readEnds(limited)
		cancel()
		if err != nil && ctx.Err() == nil {
			w.metrics.retries.WithLabelValues("check").Inc()
			w.log.Warn().Err(err).Msg("cannot see how far the log reaches")
		}
	}
}

// readEnds notes where the log of each held partition ends.
func (w *Worker) readEnds(ctx context.Context) error {
	ends, err := kadm.NewClient(w.admin).ListEndOffsets(ctx, w.cfg.Kafka.Topic)
	if err != nil {
		return fmt.Errorf("cannot read the end offsets of topic %s: %w", w.cfg.Kafka.Topic, err)
	}
	for _, l := range w.lanes {
		ends.Each(func(end kadm.ListedOffset) { l.assigned.noteEnd(end.Partition, end.Offset) })
	}
	return ends.Error()
}

// owned returns the partitions that the lanes hold now, each once, ascending.
func (w *Worker) owned() []int32 {
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
		all.Go(func() { l.close(ctx) })
	}
	all.Wait()
}

// retry repeats try until it succeeds, with a wait between attempts, and shows why it waits. Errors: the end of ctx, or
// an error that waiting can't mend.
func (w *Worker) retry(ctx context.Context, what string, try func(context.Context) error) error {
	defer w.health.clear(what)
	for attempt := 0; ; attempt++ {
		err := try(ctx)
		if err == nil || isFatal(err) {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("cannot %s: %w", what, ctx.Err())
		}
		w.health.set(what, "cannot "+what+": "+err.Error())
		w.log.Warn().Err(err).Int("attempt", attempt+1).Msg("cannot " + what + ": trying again")
		if !wait(ctx, w.pause(attempt)) {
			return fmt.Errorf("cannot %s: %w", what, ctx.Err())
		}
	}
}

// stops says whether err calls for a loud stop: an assumption does not hold, and waiting won't mend it.
func isFatal(err error) bool {
	return err != nil && (trade.ClassOf(err) == trade.Broken || errors.Is(err, checks.ErrWrong))
}

// unlessDone returns err, or nil when it came from the end of ctx: a drain is no fault.
func unlessDone(ctx context.Context, err error) error {
	if ctx.Err() != nil && !isFatal(err) {
		return nil
	}
	return err
}

// wait returns true after d, or false as soon as ctx ends.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
