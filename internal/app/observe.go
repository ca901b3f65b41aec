package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tradestore/internal/telemetry"
)

// Limits of the worker's HTTP server: probes and scrapes have no body and small headers.
const (
	observeReadTimeout  = 5 * time.Second
	observeWriteTimeout = 10 * time.Second
	observeIdleTimeout  = 60 * time.Second
	observeHeaderBytes  = 8 << 10
)

// observe serves /livez, /readyz and /metrics on ln until ctx ends. It returns nil if it then stopped cleanly. ready
// returns nil when the role works, else why it does not.
func observe(ctx context.Context, ln net.Listener, reg *prometheus.Registry, ready func() error) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", telemetry.Handler(reg))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "alive", nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			answer(w, http.StatusServiceUnavailable, "not ready", err)
			return
		}
		answer(w, http.StatusOK, "ready", nil)
	})
	srv := &http.Server{
		Handler:           mux,
		ReadTimeout:       observeReadTimeout,
		ReadHeaderTimeout: observeReadTimeout,
		WriteTimeout:      observeWriteTimeout,
		IdleTimeout:       observeIdleTimeout,
		MaxHeaderBytes:    observeHeaderBytes,
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), observeReadTimeout)
		defer cancel()
		stopped <- srv.Shutdown(limit)
	})
	err := srv.Serve(ln)
	if stop() { // ctx has not ended: Serve failed by itself
		return fmt.Errorf("cannot serve probes and metrics on %s: %w", ln.Addr(), err)
	}
	if err := <-stopped; err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("cannot stop serving probes and metrics: %w", err)
	}
	return nil
}

func answer(w http.ResponseWriter, status int, text string, reason error) {
	body := map[string]string{"status": text}
	if reason != nil {
		body["detail"] = reason.Error()
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a prober that left gets nothing
}
