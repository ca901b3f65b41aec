package main

import (
	"context"
	"fmt"
	"time"
)

// draining measures how fast a worker gets through a topic that was filled beforehand, against an upsert alone on one
// connection: what the journal, the version rule and the way from the log to the store cost. A worker as it comes has two
// lanes, so two connections; one lane has no more than the upsert.
func draining(ctx context.Context, h *harness, r *results) error {
	if h.kafka == nil {
		return nil
	}
	e, err := h.newEnv(ctx, "drain", partitions, h.records)
	if err != nil {
		return err
	}
	unnest := &series{name: "upsert of unnested arrays", run: func(ctx context.Context, hold time.Duration) (sample, error) {
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
		again := func(name string, version int32) *series { // of the trades that the last drain of new ones stored
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

// storedVersion is the version that new trades have: there is one below.
const storedVersion = 2

// scattered are trades whose ids are in no order, so that each new one falls between those that are stored.
func scatteredIDs(version int32) tradeSource {
	return func(number int) (string, int32) { return fmt.Sprintf("TRD-%010d-N", scatter(number)), version }
}

// scatter maps the numbers below 2^32 on each other, each on one that is far from those of its neighbours.
func scatter(number int) uint32 { return uint32(number) * 2654435761 } //nolint:gosec // it is meant to wrap

// growing are trades whose ids come after all that are stored.
func growingIDs(number int) (string, int32) { return fmt.Sprintf("TRE-%010d-N", number), storedVersion }
