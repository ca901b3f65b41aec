package app

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const month = 30 * day

// skewedClock is a clock of a process that may jump.
type skewedClock struct{ ahead atomic.Int64 }

func (c *skewedClock) jump(by time.Duration) { c.ahead.Store(int64(by)) }

func (c *skewedClock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// metric is for await: /metrics has the line.
func (r *running) metric(t *testing.T, line string) func() bool {
	t.Helper()
	return func() bool {
		_, answer := r.get(t, "/metrics")
		text, _ := answer["text"].(string)
		return strings.Contains(text, line)
	}
}

// A process whose clock is far from the one of the database does not start, and names both times (rule T11).
func TestAWrongClockStopsAStart(t *testing.T) {
	s := newDeployment(t)
	for _, ahead := range []time.Duration{month, -month} {
		var clock skewedClock
		clock.jump(ahead)
		for _, role := range []*running{
			start(t, func(ctx context.Context, env Env) error {
				env.Now = clock.now
				return RunServer(ctx, s.serverConfig(t), env)
			}),
			start(t, func(ctx context.Context, env Env) error {
				env.Now = clock.now
				return RunWorker(ctx, s.workerConfig(t), env)
			}),
		} {
			select {
			case <-role.ended:
				require.ErrorContains(t, role.err, "checks failed: T11 clock against PostgreSQL: expected within 30s, seen: ")
				require.Regexp(t, clock.now().UTC().Format(time.DateOnly)+"T.+ here, "+
					time.Now().UTC().Format(time.DateOnly)+"T.+ there", role.err)
			case <-time.After(patience):
				require.Fail(t, "still running", role.log.String())
			}
		}
	}
}

// A worker whose clock jumps while it runs deletes nothing, says so and goes on (rule T11).
func TestAClockThatJumpsDeletesNothing(t *testing.T) {
	s := newDeployment(t)
	var clock skewedClock
	server := start(t, func(ctx context.Context, env Env) error { return RunServer(ctx, s.serverConfig(t), env) })
	cfg := s.workerConfig(t)
	cfg.Process.CheckInterval, cfg.Worker.SweepInterval = time.Second, 100*time.Millisecond
	worker := start(t, func(ctx context.Context, env Env) error {
		env.Now = clock.now
		return RunWorker(ctx, cfg, env)
	})
	server.awaitReady(t)
	worker.awaitReady(t)
	server.ends(t, server.post(t, "T1", "1"), "SUCCESS", nil)
	w := s.wreck(t, cfg.Kafka.Topic)

	clock.jump(month)
	worker.await(t, "a sweep", func() bool {
		return worker.says("nothing is deleted")() || w.exec("SELECT FROM journal") == 0
	})
	worker.await(t, "counted", worker.metric(t, `tradestore_checks{rule="T11",status="warning"} 1`))
	server.ends(t, server.post(t, "T1", "2"), "SUCCESS", nil)
	require.Equal(t, int64(2), w.exec("SELECT FROM journal"))
	require.Equal(t, int64(2), w.exec("SELECT FROM requests"))
	status, _ := worker.get(t, "/readyz")
	require.Equal(t, http.StatusOK, status)

	clock.jump(0)
	worker.await(t, "right again", worker.metric(t, `tradestore_checks{rule="T11",status="ok"} 1`))
	require.NoError(t, worker.drain())
	require.NoError(t, server.drain())
}
