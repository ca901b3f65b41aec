package main

import (
	"context"
	"fmt"
	"time"
)

// draining measures how fast a worker drains a filled topic, against an upsert alone on one connection: the cost of the
// journal, the version rule and the way from log to store. By default a worker has two lanes and connections; with one
// lane it has one, like the upsert.
func draining(ctx context.Context, h *harness, r *results) error {
	if h.kafka == nil {
		return nil
	}
	e, err := h.newEnv(ctx, "drain", partitions, h.records)
	if err != nil {
		return err
	}
	unnest := &series{name: "upsert of unnested arrays", run: func(ctx context.Context,
		hold time.Duration) (sample, error) {
		return h.benchmark(ctx, "RawUnnest", hold)
	}}
	kinds := stage{title: "Drain of a filled topic", unit: "records", limit: unnest}
	for _, w := range []struct {
		workers
		called string
	}{
		{workers{count: 1}, ""},
		{workers{count: 1, args: []string{"--lanes", "1"}}, ", --lanes 1"},
	} {
		again := func(name string, version int32) *series { // versions of the trades that the last drain stored
			return &series{name: name + w.called, run: func(ctx context.Context, _ time.Duration) (sample, error) {
				return h.drain(ctx, e, w.workers, e.tradesMade-e.records, scatteredIDs(version))
			}}
		}
		kinds.ours = append(kinds.ours, h.newDrains("every record new"+w.called, e, w.workers, scatteredIDs(storedVersion)),
			again("every record a replace", storedVersion), again("every record stale", storedVersion-1))
	}
	if err := h.measure(ctx, true, kinds); err != nil {
		return err
	}
	for i, ours := range kinds.ours {
		want := []float64{0.75, 0.5, 0.5}[i%3]
		r.addGoal(atLeast(want, "drain of a filled topic, "+ours.name, ours, kinds.limit, rate, "drain"))
	}
	return nil
}

// storedVersion is the version of new trades: a lower one exists.
const storedVersion = 2

// scatteredIDs are trades with ids in random order, so that each new id is between stored ones.
func scatteredIDs(version int32) tradeSource {
	return func(number int) (string, int32) { return fmt.Sprintf("TRD-%010d-N", scatter(number)), version }
}

// scatter is a bijection of the numbers below 2^32 that moves neighbours far apart.
func scatter(number int) uint32 { return uint32(number) * 2654435761 } //nolint:gosec // it is meant to wrap

// growingIDs are trades whose ids are after all stored ones.
func growingIDs(number int) (string, int32) { return fmt.Sprintf("TRE-%010d-N", number), storedVersion }
