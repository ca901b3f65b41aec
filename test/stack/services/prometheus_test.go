package services

import (
	"context"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/internal/proc"
)

// needPrometheus skips on a laptop that can't build it.
func needPrometheus(t *testing.T) string {
	t.Helper()
	dir, err := FetchPrometheus(within(t), "")
	if err != nil && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	require.NoError(t, err)
	return dir
}

const someRules = `
groups:
  - name: some
    rules:
      - {record: "job:up:sum", expr: "sum by (job) (up)"}
      - {record: "job:up:ratio", expr: "job:up:sum / (job:up:sum > 9)"}
      - alert: Down
        expr: "up{job='nobody'} == 0"
        labels: {severity: page}
        annotations: {summary: "{{ $labels.instance }} is down"}
      - {alert: Up, expr: "up{job='nobody'} == 1"}
`

// TestPrometheus is one server's story. It scrapes itself, and a port where nobody is.
func TestPrometheus(t *testing.T) {
	needPrometheus(t)
	dir := t.TempDir()
	rules := filepath.Join(t.TempDir(), "rules.yaml")
	require.NoError(t, os.WriteFile(rules, []byte(someRules), 0o600))
	own, err := proc.FreePort()
	require.NoError(t, err)
	cfg := PrometheusConfig{Dir: dir, Port: own, Interval: 100 * time.Millisecond, Rules: []string{rules},
		Targets: []Target{
			{Job: "self", Address: proc.Loopback(own), Labels: map[string]string{"part": "one"}},
			{Job: "nobody", Address: "127.0.0.1:1"},
		}}
	p, err := StartPrometheus(within(t), cfg)
	require.NoError(t, err)
	t.Cleanup(p.Kill)

	query := func(expr string) []Series {
		t.Helper()
		found, err := p.Query(within(t), expr)
		require.NoError(t, err)
		return found
	}
	require.Eventually(t, func() bool { return len(query(`rate(prometheus_http_requests_total[2s])`)) > 0 }, time.Minute,
		readyPoll)
	require.Eventually(t, func() bool { return len(query(`job:up:sum`)) == 2 }, time.Minute, readyPoll)
	up := query(`up{job="self"}`)
	require.Len(t, up, 1)
	assert.Equal(t, map[string]string{"__name__": "up", "job": "self", "instance": proc.Loopback(own), "part": "one"},
		up[0].Labels)
	assert.Equal(t, []float64{1}, up[0].Values)
	assert.Equal(t, []Series{{Values: []float64{7}}}, query(`3 + 4`))
	assert.True(t, math.IsNaN(query(`vector(0) / 0`)[0].Values[0]))
	assert.Empty(t, query(`nothing`))
	assert.NotEmpty(t, query(`prometheus_http_request_duration_seconds{handler="/api/v1/query"}`), "no native histogram")
	assert.NotEmpty(t, query(`prometheus_http_request_duration_seconds_bucket{handler="/api/v1/query"}`),
		"no classic histogram")
	_, err = p.Query(within(t), `rate(up)`)
	require.ErrorContains(t, err, "cannot evaluate rate(up): ")
	require.ErrorContains(t, err, "expected type range vector")

	series, err := p.QueryRange(within(t), `count(up) by (job)`, 10*time.Second, 100*time.Millisecond)
	require.NoError(t, err)
	require.Len(t, series, 2)
	assert.Greater(t, len(series[0].Values), 1)

	require.Eventually(t, func() bool {
		alerts, err := p.Alerts(within(t))
		require.NoError(t, err)
		return len(alerts) == 1 && alerts[0].State == "firing" && alerts[0].Annotations["summary"] == "127.0.0.1:1 is down"
	}, time.Minute, readyPoll)
	all, err := p.Rules(within(t))
	require.NoError(t, err)
	require.Len(t, all, 4)
	assert.Equal(t, "ok", all[1].Health, all[1].LastError)
	assert.Equal(t, []string{"Down", "alerting", "firing"}, []string{all[2].Name, all[2].Type, all[2].State})
	assert.Len(t, all[2].Alerts, 1)
	assert.Equal(t, "inactive", all[3].State)

	p.Kill()
	_, err = p.Query(within(t), `up`)
	require.ErrorContains(t, err, "cannot evaluate up: ")
}

func TestPrometheusThatDoesNotStartSaysWhy(t *testing.T) {
	needPrometheus(t)
	rules := filepath.Join(t.TempDir(), "rules.yaml")
	require.NoError(t, os.WriteFile(rules, []byte("groups: [{name: a, rules: [{record: b, expr: 'rate(c)'}]}]"), 0o600))
	_, err := StartPrometheus(within(t), PrometheusConfig{Dir: t.TempDir(), Interval: time.Second, Rules: []string{rules}})
	require.ErrorContains(t, err, "cannot start Prometheus: it ended by itself")
	require.ErrorContains(t, err, "expected type range vector")
	_, err = StartPrometheus(within(t), PrometheusConfig{Dir: t.TempDir()})
	require.ErrorContains(t, err, "no interval given")
	_, err = StartPrometheus(within(t), PrometheusConfig{})
	require.ErrorContains(t, err, "no folder given")
}

func TestPromtool(t *testing.T) {
	dir := needPrometheus(t)
	said, err := exec.Command(filepath.Join(dir, "promtool"), "--version").CombinedOutput()
	require.NoError(t, err)
	require.Contains(t, string(said), "remove_all_sd")
}

func TestPrometheusThatCannotBeBuiltIsMissing(t *testing.T) {
	t.Setenv("PATH", "")
	_, err := FetchPrometheus(t.Context(), t.TempDir())
	require.ErrorIs(t, err, ErrMissing)
	require.ErrorContains(t, err, "cannot build Prometheus: no Go found")

	t.Setenv("PATH", os.Getenv("PATH"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = FetchPrometheus(ctx, t.TempDir())
	require.ErrorIs(t, err, ErrMissing)
}
