package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Goals for the memory under load.
const (
	memoryGoal = 150 // MiB, of each process
	memoryLong = 30  // times the sustained load of one round: half an hour by default
	memoryPoll = time.Second
)

// memory sends the sustained load for a long time and samples the memory of server and worker: a small leak per trade
// shows only after millions.
func memory(ctx context.Context, h *harness, r *results) error {
	if h.kafka == nil {
		return nil
	}
	t, _, err := h.newRoles(ctx, "memory")
	if err != nil {
		return err
	}
	hold := memoryLong * h.sustain
	h.say("holding the load for %v", hold)
	var load sample
	of := func(w watched) gauge { return func(context.Context) (float64, error) { return memoryOf(w.pid) } }
	var worker []float64
	server := sampleGauge(ctx, hold, memoryPoll, of(t.watched[0]), func() {
		worker = sampleGauge(ctx, hold, memoryPoll, of(t.watched[1]), func() { load, err = h.attack(ctx, t, hold) })
	})
	if err != nil {
		return err
	}
	r.addMemory(t.watched[0].name, server, hold, load)
	r.addMemory(t.watched[1].name, worker, hold, load)
	return nil
}

// addMemory adds the goal of one process: the peak is below the limit, and the mean of the last third of the time is
// not above the peak of the second.
func (r *results) addMemory(name string, mib []float64, hold time.Duration, load sample) {
	middle, last := thirds(mib)
	peak := 0.0
	if len(mib) > 0 {
		peak = slices.Max(mib)
	}
	r.addGoal(goal{figure: "memory of the " + name + " under sustained load",
		want: fmt.Sprintf("under %d MiB, flat over 30 minutes", memoryGoal),
		got: fmt.Sprintf("%.0f MiB at most; over %v on average %.0f in the middle third, %.0f in the last, while %s/s "+
			"were accepted and stored",
			peak, hold, mean(middle), mean(last), thousands(load.stored)),
		met: peak < memoryGoal && flat(middle, last) && hold >= 30*time.Minute, part: "memory"})
}
