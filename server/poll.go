package server

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"tradestore/internal/telemetry"
)

// The pace of a pollLoop: it costs the store at most a fifth of the time of one connection.
const (
	minPollPause = 20 * time.Millisecond // between two rounds
	maxPollPause = time.Second           // also after a round that failed
	pollFactor   = 4                     // a pause is that many times as long as the round before
)

// pollLoop reads a store while someone waits for what may appear there. A worker of the same process may announce news;
// all other news are found after a pause.
type pollLoop struct {
	joined  chan struct{}   // capacity 1: someone waits who did not wait before
	news    chan struct{}   // capacity 1: there is something new to read
	closed  <-chan struct{} // ends the loop
	timeout time.Duration   // of one read
	reads   prometheus.Histogram
	errors  prometheus.Counter
	panics  prometheus.Counter
	log     zerolog.Logger
}

// newPollLoop makes a loop that ends with closed. Its reads are measured and its errors are counted.
func newPollLoop(cfg *Config, deps *Deps, m *metrics, closed <-chan struct{}, reads prometheus.Histogram,
	errors prometheus.Counter) pollLoop {
	return pollLoop{
		joined: make(chan struct{}, 1), news: make(chan struct{}, 1), closed: closed, timeout: cfg.StoreTimeout,
		reads: reads, errors: errors, panics: m.panics, log: telemetry.Sampled(deps.Log),
	}
}

// poll calls round while someone waits, until closed, and tells it whether news were announced. A round that failed is
// repeated.
func (p *pollLoop) poll(anyone func() bool, round func(news bool) error, failure string) {
	pause := minPollPause
	for {
		if !anyone() {
			select {
			case <-p.joined:
			case <-p.closed:
				return
			}
			continue
		}
		timer, news := time.NewTimer(pause), false
		select {
		case <-timer.C:
		case <-p.news:
			news = true
		case <-p.closed:
			return
		}
		timer.Stop()
		start := time.Now()
		err := p.try(func() error { return round(news) })
		pause = min(max(pollFactor*time.Since(start), minPollPause), maxPollPause)
		if err != nil {
			pause = maxPollPause
			p.errors.Inc()
			p.log.Warn().Err(err).Msg(failure)
		}
	}
}

// try makes a panic in the store an error of this round.
func (p *pollLoop) try(round func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			p.panics.Inc()
			err = fmt.Errorf("panic: %v\n%s", cause, debug.Stack())
		}
	}()
	return round()
}

// read calls a store within the time limit and measures the call.
func (p *pollLoop) read(call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), p.timeout)
	defer cancel()
	start := time.Now()
	err := call(ctx)
	p.reads.Observe(time.Since(start).Seconds())
	return err
}

// notify fills a channel of capacity 1: whoever receives from it later knows that something has happened since.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
