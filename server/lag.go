package server

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/internal/telemetry"
	"tradestore/kafka"
	"tradestore/trade"
)

const (
	lagInterval  = time.Second // between two measurements
	maxLagging   = 100         // partitions in one answer
	maxDrain     = 24 * 3600   // seconds: a longer estimate is drainStalled
	newestWeight = 0.3         // of the latest second in the rate at which the positions move
)

// Values of drain that are not a number of seconds.
const (
	drainUnknown = -1 // nothing could be read
	drainStalled = -2 // there is a backlog, and nothing moves
)

// lag measures how far the log is applied, once a second. So an estimate for Retry-After is one atomic load and asks no
// store, and whoever asks for the lag gets the latest measurement or its failure: one look at a time, however many ask.
type lag struct {
	topic      string
	partitions int
	timeout    time.Duration // of one look
	client     *kgo.Client
	journal    Journal
	m          *metrics
	log        zerolog.Logger

	drain  atomic.Int64 // seconds until what is in the log now is applied, or one of the above
	behind atomic.Int64 // records

	seen   chan struct{}                              // closed after the first measurement
	report atomic.Pointer[func() (*lagReport, error)] // of the latest one

	// Of the goroutine that measures.
	at      time.Time // of the latest measurement that succeeded
	applied int64     // sum of the positions then
	left    int64     // records behind then
	rate    float64   // records applied per second while there was something to apply; 0 before it is known
}

// lagReport is the shape of GET /api/v1/lag.
type lagReport struct {
	MeasuredAt    time.Time      `json:"measured_at"`
	RecordsBehind int64          `json:"records_behind"`
	OldestSeconds float64        `json:"oldest_unapplied_seconds"`
	DrainSeconds  *float64       `json:"drain_seconds"` // null when nothing moves, or too little to tell
	Partitions    []partitionLag `json:"partitions"`    // the first of behind, once they are in order

	behind []partitionLag // every partition that is
}

// partitionLag is one partition that is behind.
type partitionLag struct {
	Partition     int32 `json:"partition"`
	NextOffset    int64 `json:"next_offset"`
	EndOffset     int64 `json:"end_offset"`
	RecordsBehind int64 `json:"records_behind"`
}

func newLag(cfg *Config, deps *Deps, m *metrics) *lag {
	l := &lag{
		topic: cfg.Topic, partitions: cfg.Partitions, timeout: cfg.StoreTimeout, client: deps.Kafka,
		journal: deps.Journal, m: m, log: telemetry.Sampled(deps.Log), seen: make(chan struct{}),
	}
	l.drain.Store(drainUnknown)
	return l
}

// run measures once a second until done is closed.
func (l *lag) run(done <-chan struct{}) {
	tick := time.NewTicker(lagInterval)
	defer tick.Stop()
	first := sync.OnceFunc(func() { close(l.seen) })
	for {
		report, err := l.try(l.measure)
		if err != nil {
			l.drain.Store(drainUnknown)
		}
		// The age of the oldest record is read at most once for each measurement, by the first who asks.
		complete := sync.OnceValues(func() (*lagReport, error) {
			if err != nil || len(report.behind) == 0 {
				return report, err
			}
			return l.try(func() (*lagReport, error) { return l.addOldest(report) })
		})
		l.report.Store(&complete)
		first()
		select {
		case <-tick.C:
		case <-done:
			return
		}
	}
}

// ask returns the latest report. Calls that come together share it, also when it is an error. It waits for one look at
// most.
func (l *lag) ask() (*lagReport, error) {
	<-l.seen
	return (*l.report.Load())()
}

// try looks at the stores. A panic in one of them is an error, so that the loop goes on.
func (l *lag) try(look func() (*lagReport, error)) (report *lagReport, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			l.m.panics.Inc()
			err = fmt.Errorf("panic: %v\n%s", cause, debug.Stack())
		}
		if err != nil {
			l.m.lagErrors.Inc()
			l.log.Warn().Err(err).Msg("cannot see how far the log is applied")
		}
	}()
	return look()
}

// measure reads positions and ends of the partitions, and notes the totals. Positions are read first: records that are
// appended meanwhile count as behind.
func (l *lag) measure() (*lagReport, error) {
	ctx, cancel := context.WithTimeout(context.Background(), l.timeout)
	defer cancel()
	positions, err := l.journal.Positions(ctx)
	if err != nil {
		return nil, err
	}
	ends, err := kafka.Ends(ctx, l.client, l.topic, l.partitions)
	if err != nil {
		return nil, err
	}
	if len(positions) != len(ends) {
		return nil, fmt.Errorf("the store has positions of %d partitions, the topic has %d partitions",
			len(positions), len(ends))
	}
	r := &lagReport{Partitions: []partitionLag{}}
	var applied int64
	for i, p := range positions {
		applied += p.NextOffset
		if n := ends[i] - p.NextOffset; n > 0 {
			r.RecordsBehind += n
			r.behind = append(r.behind, partitionLag{p.Partition, p.NextOffset, ends[i], n})
		}
	}
	now := time.Now()
	l.note(now, applied, r.RecordsBehind)
	r.MeasuredAt = now.UTC().Truncate(time.Millisecond)
	if drain := l.drain.Load(); drain >= 0 {
		seconds := float64(drain)
		r.DrainSeconds = &seconds
	}
	return r, nil
}

// note updates the rate over the time since the measurement before, unless there was nothing to apply then: a low
// offered load is not a low rate.
func (l *lag) note(now time.Time, applied, left int64) {
	if span := now.Sub(l.at).Seconds(); l.left > 0 && span > 0 {
		rate := float64(applied-l.applied) / span
		if l.rate > 0 {
			rate = newestWeight*rate + (1-newestWeight)*l.rate
		}
		l.rate = max(rate, 0)
	}
	l.at, l.applied, l.left = now, applied, left
	l.behind.Store(left)
	drain := int64(drainStalled)
	if seconds := float64(left) / l.rate; left == 0 {
		drain = 0
	} else if seconds <= maxDrain { // false without a rate: the quotient is infinite
		drain = int64(math.Ceil(seconds))
	}
	l.drain.Store(drain)
}

// addOldest reads when the oldest record that is not applied was sent, and completes the report.
func (l *lag) addOldest(r *lagReport) (*lagReport, error) {
	ctx, cancel := context.WithTimeout(context.Background(), l.timeout)
	defer cancel()
	positions := make([]trade.Position, len(r.behind))
	for i, p := range r.behind {
		positions[i] = trade.Position{Partition: p.Partition, NextOffset: p.NextOffset}
	}
	oldest, err := kafka.Oldest(ctx, l.client, l.topic, positions)
	if err != nil {
		return nil, err
	}
	r.OldestSeconds = max(math.Round(1000*r.MeasuredAt.Sub(oldest).Seconds())/1000, 0)
	slices.SortFunc(r.behind, func(a, b partitionLag) int { return cmp.Compare(b.RecordsBehind, a.RecordsBehind) })
	r.Partitions = r.behind[:min(len(r.behind), maxLagging)]
	return r, nil
}
