// Package live shows the panels and the alerts on a real Prometheus that watches a running pipeline under load, in
// health and through faults.
package live

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/dashboards"
	"tradestore/dashboards/rules"
	"tradestore/test/stack/services"
)

// TestLive is the story of one stack: it is well, it meets one fault after the other, and it is well again. In the end
// no panel is left that has never had anything to show.
func TestLive(t *testing.T) {
	began := time.Now()
	s := newDeployment(t)
	end := s.load(t, 50, 50, "")
	s.panelsAreFilled(t)
	s.rulesAreWell(t)
	for _, f := range faults {
		s.strike(t, f)
	}
	for _, q := range dashboards.Queries() {
		if q.MayBeEmpty != "" && q.MayBeEmpty != dashboards.NeedsExporter {
			s.hasShown(t, q, time.Since(began))
		}
	}
	became := end()
	require.NotZero(t, became.Accepted)
	for _, offenders := range [][]string{became.Lost.First, became.Doubled.First, became.Stuck.First, became.Wrong.First} {
		assert.Empty(t, offenders, "through all faults")
	}
	s.endsLoudly(t)
	s.allFired(t, time.Since(began))
}

// panelsAreFilled waits until every query has data, all of it numbers. One that may be empty only has to be understood.
func (s *deployment) panelsAreFilled(t *testing.T) {
	t.Helper()
	wrong := map[dashboards.Query]string{}
	for _, q := range dashboards.Queries() {
		wrong[q] = "not asked yet"
	}
	eventually(t, func() bool {
		for q := range wrong {
			found, err := s.prometheus.Query(t.Context(), choose(t, q.Expr, 15*time.Second))
			require.NoError(t, err, "%s: %s", q.Dashboard, q.Panel)
			if wrong[q] = judge(found); wrong[q] == "" || q.MayBeEmpty != "" {
				delete(wrong, q)
			}
		}
		return len(wrong) == 0
	})
	for q, what := range wrong {
		assert.Fail(t, what, "%s: %s: %s", q.Dashboard, q.Panel, q.Expr)
	}
}

// onMadeUpSeries are the alerts that no fault here sets off: promtool alone shows that they fire.
var onMadeUpSeries = map[string]string{
	"TradestoreLagOld":            "a lag of a minute takes a minute",
	"TradestoreProjectionBehind":  "an outcome that is not shown for a minute takes a minute",
	"TradestoreOutcomeConflict":   "only a bug makes two outcomes",
	"TradestorePendingUnprovable": "only a log or a journal that has lost days cannot prove it",
	"TradestoreOutcomeNotShown":   "only an item that was spoiled from outside is refused; it may fire here",
	"TradestorePartitionsUnread":  "one worker has all partitions, or is not seen; it may fire while Kafka comes back",
	"TradestoreUpkeepFailing":     "sweeps that fail for an hour take an hour",
	"TradestoreReadsThrottled":    "a journal that hangs and clients that read histories all the time",
	"TradestoreConnectionsFull":   "as many clients as a server may have connections",
	"TradestorePoolExhausted":     "a PostgreSQL that is slow, not gone; it may fire here",
	"TradestoreCheckUnconfirmed":  "a standby that is seen for a moment; test/e2e has a failover",
	"TradestoreClockSkewed":       "the clock of this machine stays what it is",
	"TradestoreClockWrong":        "the clock of this machine stays what it is",
}

// allFired demands that every other alert has fired, some of them beside those that a fault was for.
func (s *deployment) allFired(t *testing.T, back time.Duration) {
	t.Helper()
	found, err := s.prometheus.QueryRange(t.Context(), `count by (alertname) (ALERTS{alertstate="firing"})`, back,
		time.Second/2)
	require.NoError(t, err)
	fired := map[string]bool{}
	for _, series := range found {
		fired[series.Labels["alertname"]] = true
	}
	for _, a := range rules.Alerts() {
		if onMadeUpSeries[a.Name] == "" {
			assert.True(t, fired[a.Name], "%s has never fired", a.Name)
		}
	}
}

// hasShown demands that the query had a number at some time of the test.
func (s *deployment) hasShown(t *testing.T, q dashboards.Query, back time.Duration) {
	t.Helper()
	found, err := s.prometheus.QueryRange(t.Context(), choose(t, q.Expr, time.Minute), back, time.Second)
	require.NoError(t, err)
	for _, series := range found {
		for _, value := range series.Values {
			if !math.IsNaN(value) && !math.IsInf(value, 0) {
				return
			}
		}
	}
	assert.Fail(t, "no fault has filled it", "%s: %s: %s (%s)", q.Dashboard, q.Panel, q.Expr, q.MayBeEmpty)
}

// choose fills in the variables of a dashboard: everything, at the time resolution of this Prometheus.
func choose(t *testing.T, expr string, window time.Duration) string {
	t.Helper()
	chosen := strings.NewReplacer("$__rate_interval", fmt.Sprintf("%ds", int(window.Seconds())), "$job", ".+", "$instance",
		".+", "$capacity", "1000").Replace(expr)
	require.NotContains(t, chosen, "$", "a variable that this test does not know")
	return chosen
}

// judge says what is wrong with a result.
func judge(found []services.Series) string {
	if len(found) == 0 {
		return "no data"
	}
	for _, series := range found {
		for _, value := range series.Values {
			if math.IsNaN(value) || math.IsInf(value, 0) {
				return fmt.Sprintf("%v of %v", value, series.Labels)
			}
		}
	}
	return ""
}

func TestJudge(t *testing.T) {
	f := func(want string, found ...services.Series) {
		t.Helper()
		assert.Equal(t, want, judge(found))
	}
	a := map[string]string{"a": "b"}
	f("no data")
	f("", services.Series{Values: []float64{0}}, services.Series{Labels: a, Values: []float64{-1, 1e300}})
	f("NaN of map[a:b]", services.Series{Values: []float64{1}},
		services.Series{Labels: a, Values: []float64{1, math.NaN()}})
	f("+Inf of map[a:b]", services.Series{Labels: a, Values: []float64{math.Inf(1)}})
}

// rulesAreWell waits until every rule has been evaluated without an error, and every recorded series is a number.
func (s *deployment) rulesAreWell(t *testing.T) {
	t.Helper()
	var last string
	well := func() bool {
		all, err := s.prometheus.Rules(t.Context())
		require.NoError(t, err)
		require.NotEmpty(t, all)
		for _, rule := range all {
			if last = rule.Name + ": " + rule.Health + ": " + rule.LastError; rule.Health != "ok" {
				return false
			}
			if rule.Type != "recording" {
				continue
			}
			found, err := s.prometheus.Query(t.Context(), rule.Name)
			require.NoError(t, err)
			if wrong := judge(found); wrong != "" {
				last = rule.Name + ": " + wrong
				return false
			}
		}
		return true
	}
	require.True(t, eventually(t, well), "%s", last)
}

// eventually asks until it is so, or for too long.
func eventually(t *testing.T, so func() bool) bool {
	t.Helper()
	end := time.After(limit)
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-end:
			return false
		}
	}
	return true
}
