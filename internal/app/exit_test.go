package app

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

// Only an error that waiting can't mend is held back, and for no longer than the limit or a signal.
func TestDelayExit(t *testing.T) {
	broken := trade.Classed(trade.Broken, "a table is missing")
	f := func(err error, limit, signal, want time.Duration) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			ctx, stop := context.WithTimeout(t.Context(), signal)
			defer stop()
			began := time.Now()
			require.Equal(t, err, delayExit(ctx, zerolog.Nop(), limit, err))
			require.Equal(t, want, time.Since(began))
		})
	}
	f(broken, 30*time.Second, time.Hour, 30*time.Second)
	f(broken, 30*time.Second, time.Second, time.Second)
	f(broken, 0, time.Hour, 0)
	f(nil, 30*time.Second, time.Hour, 0)
	f(errors.New("cannot listen"), 30*time.Second, time.Hour, 0)
}

// After a loud stop a scrape finds out why, a load balancer looks away, no trade gets in, and a signal ends the process
// with the error that stopped it, whether the fault was there at the start or came later.
func TestAfterALoudStopAScrapeSeesWhy(t *testing.T) {
	f := func(name string, late bool) {
		t.Run(name, func(t *testing.T) {
			s := newDeployment(t)
			w := s.wreck(t, "trades-inbound")
			server, worker := s.serverConfig(t), s.workerConfig(t)
			server.Process.CheckInterval, worker.Process.CheckInterval = time.Second, time.Second
			spoil := func() { w.exec("UPDATE schema_version SET version = 0") }
			if !late {
				spoil()
			}
			roles := []*running{
				start(t, func(ctx context.Context, env Env) error {
					env.ExitDelay = time.Hour
					return RunServer(ctx, server, env)
				}),
				start(t, func(ctx context.Context, env Env) error {
					env.ExitDelay = time.Hour
					return RunWorker(ctx, worker, env)
				}),
			}
			if late {
				for _, role := range roles {
					role.awaitReady(t)
				}
				spoil()
			}
			for _, role := range roles {
				role.await(t, "held back", role.says("metrics stay up before the exit"))
				said := role.log.String()
				require.Equal(t, 1, strings.Count(said, `"level":"error"`), said)
				require.Contains(t, said, "T6 version of the schema: expected")
				role.await(t, "not ready", role.answers(t, "/readyz", http.StatusServiceUnavailable))
				status, _ := role.get(t, "/livez")
				require.Equal(t, http.StatusOK, status)
				_, answer := role.get(t, "/metrics")
				require.Contains(t, answer["text"], `tradestore_checks{rule="T6",status="failed"} 1`)
			}
			status, answer := send(t, http.MethodPost, roles[0].url+"/api/v1/trades", tradeJSON("T1", "1"))
			require.Equal(t, http.StatusServiceUnavailable, status)
			require.NotContains(t, answer, "request_id", "this call has no effect")
			for _, role := range roles {
				require.ErrorContains(t, role.drain(), "checks failed")
			}
			require.Zero(t, w.exec("SELECT 1 FROM journal"))
		})
	}
	f("at the start", false)
	f("later", true)
}
