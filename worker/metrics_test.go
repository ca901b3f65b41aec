package worker

import (
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// value returns the largest value of a family, over the series that have all the label values given: of a gauge or
// counter its value, of a histogram its count. -1 when there is none.
func (run *running) value(name string, labels ...string) float64 {
	run.t.Helper()
	families, err := run.reg.Gather()
	require.NoError(run.t, err)
	largest := -1.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			missing := slices.Clone(labels)
			for _, l := range m.GetLabel() {
				missing = slices.DeleteFunc(missing, func(v string) bool { return v == l.GetValue() })
			}
			if f.GetName() == name && len(missing) == 0 {
				largest = max(largest, m.GetGauge().GetValue()+m.GetCounter().GetValue()+float64(m.GetHistogram().GetSampleCount()))
			}
		}
	}
	return largest
}

func TestMetricsFollowTheConventions(t *testing.T) {
	r := newRig(t, 2)
	reg := prometheus.NewRegistry()
	deps := Deps{Store: r.store, Journal: r.store, Requests: r.store, Keeper: r.store, Registry: reg, Now: r.store.now}
	_, err := New(r.config(), deps)
	require.NoError(t, err)
	families, err := reg.Gather()
	require.NoError(t, err)
	require.NotEmpty(t, families)
	for _, f := range families {
		assert.True(t, strings.HasPrefix(f.GetName(), "tradestore_"), f.GetName())
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
	_, err = New(r.config(), deps)
	require.ErrorContains(t, err, "cannot register the metrics")
}

func TestMetricsOfPartitionsGoWithThem(t *testing.T) {
	r := newRig(t, 3)
	w := r.start(nil)
	r.post("T", 30)
	r.applied(30)
	for _, partition := range []string{"0", "1", "2"} {
		r.eventually("a position of each partition", func() bool { return w.value("tradestore_apply_position", partition) > 0 })
	}
	w.drain()
	assert.InDelta(t, -1, w.value("tradestore_apply_position"), 0)
	assert.InDelta(t, 30, w.value("tradestore_apply_end_to_end_seconds"), 0)
	assert.InDelta(t, 30, w.value("tradestore_apply_outcomes_total", "SUCCESS"), 0)
}
