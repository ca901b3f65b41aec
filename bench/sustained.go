package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/kafka"
)

// Goals of the sustained load.
const (
	acceptedGoal = 0.5        // of the no-op server
	storedGoal   = 0.45       // of the no-op server
	costGoal     = 40.0 / 9.0 // times the processor time of the no-op server: 40 µs where that costs 9
	lagPoll      = 250 * time.Millisecond
)

// sustained compares server and worker on Apache Kafka and PostgreSQL with the no-op HTTP server, under a load long
// enough for buffers, caches and checkpoints to reach a steady state.
func sustained(ctx context.Context, h *harness, r *results) error {
	if h.kafka == nil {
		return nil
	}
	name, by := "sustained", ""
	if h.loop.vegeta {
		name, by = "vegeta", ", generator vegeta"
	}
	t, database, err := h.newRoles(ctx, name)
	if err != nil {
		return err
	}
	lag, err := h.newLag(ctx, name, database)
	if err != nil {
		return err
	}
	var lags [][]float64 // of each attack, warm-up included
	hold := func(ctx context.Context, hold time.Duration) (s sample, err error) {
		seen := sampleGauge(ctx, hold, lagPoll, lag.now, func() { s, err = h.attack(ctx, t, hold) })
		lags = append(lags, seen)
		return s, err
	}
	h.say("warming up for %v: Java compiles what is used", h.sustain/3)
	if _, err := hold(ctx, h.sustain/3); err != nil {
		return err
	}
	ours := h.sustainedSeries(t.name, hold)
	limit := h.attackSeries(h.limit)
	if err := h.measure(ctx, true, stage{limit: limit, ours: []*series{ours}}); err != nil {
		return err
	}
	r.addSustained(name, by, limit, ours, lags[len(lags)-h.rounds:])
	return nil
}

// sustainedSeries runs a load in each round for -sustain instead of -hold.
func (h *harness) sustainedSeries(name string, hold func(context.Context, time.Duration) (sample, error)) *series {
	return &series{name: name, run: func(ctx context.Context, asked time.Duration) (sample, error) {
		longer := h.sustain.Seconds() / h.hold.Seconds()
		return hold(ctx, time.Duration(longer*float64(asked)))
	}}
}

// addSustained adds the goals of a sustained load; by names the generator if it is not the light one.
func (r *results) addSustained(part, by string, limit, ours *series, lags [][]float64) {
	r.addGoal(atLeast(acceptedGoal, "accepted"+by, ours, limit, rate, part))
	end := atLeast(storedGoal, "accepted and stored, sustained, lag flat"+by, ours, limit, stored, part)
	for _, round := range lags {
		middle, last := thirds(round)
		end.met = end.met && flat(middle, last)
		end.got += fmt.Sprintf("; lag %s in the middle, %s at the end", thousands(mean(middle)), thousands(mean(last)))
	}
	r.addGoal(end)
	times := ours.against(limit, func(one, limit sample) float64 { return cost(one) / cost(limit) })
	r.addGoal(goal{figure: "CPU of server and worker per trade" + by,
		want: fmt.Sprintf("at most %.1f x %s (40 µs where it costs 9)", costGoal, limit.name),
		got: fmt.Sprintf("%s: %s µs against %s µs; cores: %s", times.ratio(), ours.of(cost).short(), limit.of(cost).short(),
			ours.allCores()),
		met: times.median <= costGoal, part: part})
}

// lag measures how many records of a topic are not applied.
type lag struct {
	topic  string
	client *kgo.Client
	conn   *pgx.Conn
}

func (h *harness) newLag(ctx context.Context, topic, database string) (*lag, error) {
	client, err := kafka.NewProducer(kafka.Config{Brokers: h.kafka.Addrs(), Topic: topic, ClientID: "bench-lag"},
		prometheus.NewRegistry(), zerolog.Nop())
	if err != nil {
		return nil, err
	}
	h.onStop(client.Close)
	conn, hangUp, err := connect(ctx, database)
	if err != nil {
		return nil, err
	}
	h.onStop(hangUp)
	return &lag{topic, client, conn}, nil
}

// now reads the positions first, so the lag may be too large but never too small.
func (l *lag) now(ctx context.Context) (float64, error) {
	var applied float64
	if err := l.conn.QueryRow(ctx, appliedQuery).Scan(&applied); err != nil {
		return 0, err
	}
	ends, err := kafka.Ends(ctx, l.client, l.topic, partitions)
	written := 0.0
	for _, end := range ends {
		written += float64(end)
	}
	return written - applied, err
}

// gauge reads one value.
type gauge func(ctx context.Context) (float64, error)

// sampleGauge samples a gauge for a time while load runs. A failed read is left out.
func sampleGauge(ctx context.Context, hold, poll time.Duration, now gauge, load func()) []float64 {
	done := make(chan []float64)
	go func() {
		var seen []float64
		poll := time.NewTicker(min(poll, hold/20))
		defer poll.Stop()
		for began := time.Now(); time.Since(began) < hold && ctx.Err() == nil; <-poll.C {
			if value, err := now(ctx); err == nil {
				seen = append(seen, value)
			}
		}
		done <- seen
	}()
	load()
	return <-done
}

// thirds returns the middle and the last third.
func thirds(seen []float64) (middle, last []float64) {
	n := len(seen) / 3
	return seen[n : 2*n], seen[2*n:]
}

// flat says whether the mean of the last third is not above the peak of the middle third, which shows the normal
// variation.
func flat(middle, last []float64) bool {
	return len(middle) > 0 && mean(last) <= slices.Max(middle)
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(max(1, len(values)))
}
