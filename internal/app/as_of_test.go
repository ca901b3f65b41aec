package app

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A partition moves between workers whose clocks are 2 s apart, and is read by a server whose clock is behind. Times of
// decisions follow the log, and what as_of answers is a prefix of the log at every instant.
func TestAsOfFollowsTheLogWhateverTheClocksOfWorkers(t *testing.T) {
	s := newDeployment(t)
	skewed := func(env Env, by time.Duration) Env {
		env.Now = func() time.Time { return time.Now().Add(by) }
		return env
	}
	server := start(t, func(ctx context.Context, env Env) error {
		return RunServer(ctx, s.serverConfig(t), skewed(env, -2*time.Second))
	})
	server.awaitReady(t)

	books := []string{"B1", "B2", "B3", "B4", "B5", "B6"}
	for i, skew := range []time.Duration{2 * time.Second, 0, 2 * time.Second} {
		worker := start(t, func(ctx context.Context, env Env) error {
			return RunWorker(ctx, s.workerConfig(t), skewed(env, skew))
		})
		worker.awaitReady(t)
		for n := 2 * i; n < 2*i+2; n++ {
			body := strings.Replace(tradeJSON("T1", fmt.Sprint(1+n/3)), `"B1"`, `"`+books[n]+`"`, 1)
			status, answer := send(t, http.MethodPost, server.url+"/api/v1/trades", body)
			require.Equal(t, http.StatusAccepted, status, answer)
			server.ends(t, answer["request_id"].(string), "SUCCESS", nil)
		}
		require.NoError(t, worker.drain())
	}

	_, history := server.get(t, "/api/v1/trades/T1/history")
	items := history["items"].([]any)
	require.Len(t, items, len(books))
	decided := make([]time.Time, len(books))
	for i, item := range items {
		var err error
		decided[i], err = time.Parse(time.RFC3339Nano, item.(map[string]any)["decided_at"].(string))
		require.NoError(t, err)
		require.Equal(t, books[i], item.(map[string]any)["book_id"], "the order of the log")
		if i > 0 {
			require.False(t, decided[i].Before(decided[i-1]), "times of decisions go back: %s", decided)
		}
	}
	want := [][]any{{"B1"}, {"B2"}, {"B3"}, {"B3", "B4"}, {"B3", "B5"}, {"B3", "B6"}} // after each of the six
	asOf := func(at time.Time, want []any) {
		t.Helper()
		path := "/api/v1/trades/T1?as_of=" + url.QueryEscape(at.Format(time.RFC3339Nano))
		status, answer := server.get(t, path)
		if want == nil {
			require.Equal(t, http.StatusNotFound, status, answer)
			return
		}
		require.Equal(t, http.StatusOK, status, answer)
		var got []any
		for _, item := range answer["items"].([]any) {
			got = append(got, item.(map[string]any)["book_id"])
		}
		require.Equal(t, want, got, "as of %s; decided at %s", at, decided)
	}
	asOf(decided[0].Add(-time.Microsecond), nil)
	for i := range decided {
		asOf(decided[i], want[i])
		if i > 0 {
			asOf(decided[i].Add(-time.Microsecond), want[i-1])
		}
	}
}
