package server

import (
	"cmp"
	"context"
	"fmt"
	"math"
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

// lag measures how far the log is applied. It measures once a second, so that an estimate for Retry-After is one atomic
// load and asks no store. At most one measurement is under way.
type lag struct {
	topic      string
	partitions int
	timeout    time.Duration // of the reads of one store
	maxAge     time.Duration // of an answer
	client     *kgo.Client
	journal    Journal
	m          *metrics
	log        zerolog.Logger

	drain  atomic.Int64 // seconds until what is in the log now is applied, or one of the above
	behind atomic.Int64 // records

	mu      sync.Mutex // held while the stores are asked; protects the rest
	at      time.Time  // of the latest measurement
	applied int64      // sum of the positions then
	left    int64      // records behind then
	rate    float64    // records applied per second while there was something to apply; 0 before it is known
	report  *lagReport // the latest answer
}

// lagReport is the shape of GET /api/v1/lag.
type lagReport struct {
	at            time.Time
	MeasuredAt    time.Time      `json:"measured_at"`
	RecordsBehind int64          `json:"records_behind"`
	OldestSeconds float64        `json:"oldest_unapplied_seconds"`
	DrainSeconds  *float64       `json:"drain_seconds"` // null when nothing moves, or too little to tell
	Partitions    []partitionLag `json:"partitions"`
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
		topic: cfg.Topic, partitions: cfg.Partitions, timeout: cfg.StoreTimeout, maxAge: cfg.ProbeMaxAge,
		client: deps.Kafka, journal: deps.Journal, m: m, log: telemetry.Sampled(deps.Log),
	}
	l.drain.Store(drainUnknown)
	return l
}

// run measures once a second until done is closed.
func (l *lag) run(done <-chan struct{}) {
	tick := time.NewTicker(lagInterval)
	defer tick.Stop()
	for {
		l.mu.Lock()
		if _, err := l.measure(); err != nil {
			l.log.Warn().Err(err).Msg("cannot see how far the log is applied")
		}
		l.mu.Unlock()
		select {
		case <-tick.C:
		case <-done:
			return
		}
	}
}

// measure reads positions and ends of the partitions, and notes the totals. Positions are read first: records that are
// appended meanwhile count as behind. mu is held.
func (l *lag) measure() (behind []partitionLag, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), l.timeout)
	defer cancel()
	defer func() {
		if err != nil {
			l.m.lagErrors.Inc()
			l.drain.Store(drainUnknown)
		}
	}()
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
	var applied, left int64
	for i, p := range positions {
		applied += p.NextOffset
		if n := ends[i] - p.NextOffset; n > 0 {
			left += n
			behind = append(behind, partitionLag{p.Partition, p.NextOffset, ends[i], n})
		}
	}
	l.note(time.Now(), applied, left)
	return behind, nil
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

// ask returns a report that is no older than maxAge. Calls that come together share one measurement.
func (l *lag) ask() (*lagReport, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.report != nil && time.Since(l.report.at) < l.maxAge {
		return l.report, nil
	}
	behind, err := l.measure()
	if err != nil {
		return nil, err
	}
	r := &lagReport{
		at: l.at, MeasuredAt: l.at.UTC().Truncate(time.Millisecond), RecordsBehind: l.left, Partitions: []partitionLag{},
	}
	if drain := l.drain.Load(); drain >= 0 {
		seconds := float64(drain)
		r.DrainSeconds = &seconds
	}
	if len(behind) > 0 {
		oldest, err := l.oldest(behind)
		if err != nil {
			return nil, err
		}
		r.OldestSeconds = max(math.Round(1000*r.MeasuredAt.Sub(oldest).Seconds())/1000, 0)
		slices.SortFunc(behind, func(a, b partitionLag) int { return cmp.Compare(b.RecordsBehind, a.RecordsBehind) })
		r.Partitions = behind[:min(len(behind), maxLagging)]
	}
	l.report = r
	return r, nil
}

// oldest returns when the oldest record that is not applied was sent.
func (l *lag) oldest(behind []partitionLag) (time.Time, error) {
	ctx, cancel := context.WithTimeout(context.Background(), l.timeout)
	defer cancel()
	positions := make([]trade.Position, len(behind))
	for i, p := range behind {
		positions[i] = trade.Position{Partition: p.Partition, NextOffset: p.NextOffset}
	}
	oldest, err := kafka.Oldest(ctx, l.client, l.topic, positions)
	if err != nil {
		l.m.lagErrors.Inc()
		return oldest, err
	}
	return oldest, nil
}
