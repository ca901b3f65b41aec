package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"tradestore/test/stack/otlp"
)

// Observation settings and their goal.
const (
	observedGoal = 0.95
	tracedShare  = "0.01" // what docs/tracing.md recommends
	scrapePause  = time.Second
)

// observing compares server and worker with metrics, traces and logs on with the same without them.
func observing(ctx context.Context, h *harness, r *results) error {
	if h.kafka == nil {
		return nil
	}
	sink, err := h.newTraceSink()
	if err != nil {
		return err
	}
	off, err := h.observed(ctx, "unobserved", "unobserved", "TRADESTORE_LOG_LEVEL=error")
	if err != nil {
		return err
	}
	on, err := h.observed(ctx, "metrics scraped, 1 % traced, logs", "observed", "TRADESTORE_LOG_LEVEL=info",
		"OTEL_EXPORTER_OTLP_ENDPOINT="+sink.url, "OTEL_TRACES_SAMPLER_ARG="+tracedShare)
	if err != nil {
		return err
	}
	limit := h.sustainedSeries(off.name, func(ctx context.Context, hold time.Duration) (sample, error) {
		return h.attack(ctx, off, hold)
	})
	ours := h.sustainedSeries(on.name, func(ctx context.Context, hold time.Duration) (sample, error) {
		watching, stop := context.WithCancel(ctx)
		defer stop()
		go on.scrape(watching)
		return h.attack(ctx, on, hold)
	})
	if err := h.measure(ctx, true, stage{limit: limit, ours: []*series{ours}}); err != nil {
		return err
	}
	g := atLeast(observedGoal, "accepted with metrics, traces and logs on", ours, limit, rate, "cost")
	g.met = g.met && sink.spans.Load() > 0
	g.got += fmt.Sprintf("; %s µs of server and worker per trade against %s µs; %s spans arrived",
		ours.of(cost).short(), limit.of(cost).short(), thousands(float64(sink.spans.Load())))
	r.addGoal(g)
	return nil
}

// observed starts a server and a worker with these settings.
func (h *harness) observed(ctx context.Context, name, topic string, settings ...string) (target, error) {
	t, _, err := h.newRoles(ctx, topic, settings...)
	t.name = name
	return t, err
}

// scrape reads the metrics of both roles as Prometheus does, until ctx ends.
func (t target) scrape(ctx context.Context) {
	pause := time.NewTicker(scrapePause)
	defer pause.Stop()
	for ctx.Err() == nil {
		for _, address := range []string{t.api, t.worker} {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", http.NoBody)
			if err != nil {
				return
			}
			req.Header.Set("Accept", "application/vnd.google.protobuf;"+
				"proto=io.prometheus.client.MetricFamily;encoding=delimited")
			if answer, err := http.DefaultClient.Do(req); err == nil {
				_, _ = io.Copy(io.Discard, answer.Body)
				_ = answer.Body.Close()
			}
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
	}
}

// traceSink receives traces and counts the spans.
type traceSink struct {
	url   string
	spans atomic.Int64
}

func (h *harness) newTraceSink() (*traceSink, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("cannot take traces: %w", err)
	}
	s := &traceSink{url: "http://" + ln.Addr().String()}
	srv := &http.Server{Handler: otlp.Handler(func(spans []otlp.Span) { s.spans.Add(int64(len(spans))) }),
		ReadHeaderTimeout: time.Second}
	go func() {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			h.say("no more traces are taken: %v", err)
		}
	}()
	h.onStop(func() { _ = srv.Close() })
	return s, nil
}
