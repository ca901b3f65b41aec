package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"tradestore/loadtest"
)

const (
	storedLimit = 3 * time.Minute       // until everything accepted in one round is stored
	storedPoll  = 50 * time.Millisecond // each poll is a scrape, on the same cores
)

// target accepts trades over HTTP.
type target struct {
	name    string
	api     string    // host:port
	worker  string    // host:port of the worker's metrics; empty: nothing is stored
	watched []watched // its processes
}

// attackSeries attacks t in each round.
func (h *harness) attackSeries(t target) *series {
	return &series{name: t.name, run: func(ctx context.Context, hold time.Duration) (sample, error) {
		return h.attack(ctx, t, hold)
	}}
}

// attack posts new trades in a closed loop on all connections: that finds the highest rate, and says nothing about
// latency. Then it waits until every accepted trade is stored.
func (h *harness) attack(ctx context.Context, t target, hold time.Duration) (sample, error) {
	before, err := t.position(ctx)
	if err != nil {
		return sample{}, err
	}
	m, err := newMeter(t.watched)
	if err != nil {
		return sample{}, err
	}
	results := loadtest.NewResults(time.Now())
	h.loop.send(ctx, t, h.plan(), hold, results)
	s, err := summary(results)
	if err != nil {
		return sample{}, fmt.Errorf("%s: %w", t.name, err)
	}
	if t.worker != "" {
		if err := t.await(ctx, before+s.count); err != nil {
			return sample{}, err
		}
		s.stored = s.count / results.Now().Seconds()
	}
	s.lasted = results.Now()
	s.cpu, err = m.read()
	return s, err
}

// send posts trades in a closed loop.
func (c closedLoop) send(ctx context.Context, t target, p *loadtest.Plan, hold time.Duration, into *loadtest.Results) {
	if c.vegeta {
		loadtest.Vegeta{MaxWorkers: uint64(c.connections)}.Closed(ctx, t.url(), p, hold, into) //nolint:gosec // at least 1
		return
	}
	loadtest.Light{Connections: c.connections}.Closed(ctx, t.url(), p, hold, into)
}

// plan returns a plan of new trades.
func (h *harness) plan() *loadtest.Plan {
	h.attacks++
	return loadtest.NewPlan(fmt.Sprintf("bench-%d-%d", h.began.Unix(), h.attacks), 1, loadtest.Mix{loadtest.New: 1}, 0, 0)
}

func (t target) url() *url.URL { return &url.URL{Scheme: "http", Host: t.api} }

// summary counts the accepted trades. Errors: there are none.
func summary(results *loadtest.Results) (s sample, err error) {
	var last, waited time.Duration
	var other *loadtest.Result
	for r := range results.All() {
		last = max(last, r.Done)
		if r.Status == http.StatusAccepted {
			s.count++
			waited += r.Done - r.Sent
		} else {
			s.other++
			other = r
		}
	}
	if s.count == 0 && other != nil {
		return sample{}, fmt.Errorf("nothing is accepted: status %d %s %s", other.Status, other.Code, other.Err)
	}
	if s.count == 0 {
		return sample{}, errors.New("nothing was answered")
	}
	s.rate, s.wait = s.count/last.Seconds(), waited/time.Duration(s.count)
	return s, nil
}

// await waits until the worker has applied so many records.
func (t target) await(ctx context.Context, records float64) error {
	have := 0.0
	err := poll(ctx, storedPoll, storedLimit, "the worker does not get through", func(ctx context.Context) bool {
		var err error
		have, err = t.position(ctx)
		return err == nil && have >= records
	})
	if err != nil {
		return fmt.Errorf("%s: %w: %.0f of %.0f records applied", t.name, err, have, records)
	}
	return nil
}

// poll calls done at an interval until it returns true. Errors: the cause after the limit, or that of ctx.
func poll(ctx context.Context, every, limit time.Duration, cause string, done func(context.Context) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errors.New(cause))
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for !done(ctx) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// position is the number of records that the worker has applied, over all partitions.
func (t target) position(ctx context.Context) (float64, error) {
	if t.worker == "" {
		return 0, nil
	}
	page, err := get(ctx, "http://"+t.worker+"/metrics")
	if err != nil {
		return 0, fmt.Errorf("cannot see how far the worker is: %w", err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(page))
	if err != nil {
		return 0, fmt.Errorf("cannot read the metrics of the worker: %w", err)
	}
	sum := 0.0
	for _, m := range families["tradestore_apply_position"].GetMetric() {
		sum += m.GetGauge().GetValue()
	}
	return sum, nil
}

// ready waits until the worker holds every partition: only then the sum of its positions is complete.
func (t target) ready(ctx context.Context) error {
	cause := "the worker does not get all " + strconv.Itoa(partitions) + " partitions"
	err := poll(ctx, storedPoll, startLimit, cause, func(ctx context.Context) bool {
		return partitionsShared(ctx, []string{t.worker}, partitions)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", t.name, err)
	}
	return nil
}
