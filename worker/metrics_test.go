package worker

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/trade"
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
				count := float64(m.GetHistogram().GetSampleCount())
				largest = max(largest, m.GetGauge().GetValue()+m.GetCounter().GetValue()+count)
			}
		}
	}
	return largest
}

func TestMetricsFollowTheConventions(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 2)
	reg := prometheus.NewRegistry()
	_, err := New(r.config(), r.deps(reg))
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
	_, err = New(r.config(), r.deps(reg))
	require.ErrorContains(t, err, "cannot register the metrics")
}

func TestMetricsOfPartitionsGoWithThem(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 3)
	w := r.start(nil)
	r.post("T", 30)
	r.applied(30)
	for _, partition := range []string{"0", "1", "2"} {
		r.eventually("a position of each partition", func() bool {
			return w.value("tradestore_apply_position", partition) > 0
		})
	}
	assert.InDelta(t, 3, w.value("tradestore_apply_partitions"), 0)
	assert.InDelta(t, 3, w.value("tradestore_apply_topic_partitions"), 0)
	assert.InDelta(t, 1, w.value("tradestore_worker_ready"), 0)
	w.drain()
	assert.InDelta(t, -1, w.value("tradestore_apply_position"), 0)
	assert.InDelta(t, 0, w.value("tradestore_apply_partitions"), 0)
	assert.InDelta(t, 0, w.value("tradestore_worker_ready"), 0)
	assert.InDelta(t, 30, w.value("tradestore_apply_poll_delay_seconds"), 0)
	assert.InDelta(t, 30, w.value("tradestore_apply_end_to_end_seconds"), 0)
	assert.InDelta(t, 30, w.value("tradestore_projection_end_to_end_seconds"), 0)
	assert.InDelta(t, 30, w.value("tradestore_projection_outcomes_total", "SUCCESS"), 0)
	assert.InDelta(t, 30, w.value("tradestore_apply_outcomes_total", "SUCCESS"), 0)
}

// Outcomes that are visible at their commit are counted there, and the projector has nothing to measure.
func TestTimeToFinalIsMeasuredAtTheCommit(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 1)
	reg := prometheus.NewRegistry()
	deps := r.deps(reg)
	deps.OutcomesAtCommit = true
	w, err := New(r.config(), deps)
	require.NoError(t, err)
	now := time.Now()
	good := trade.Record{Request: trade.Request{AcceptedAt: now.Add(-time.Second)}}
	part := &trade.Batch{Records: []trade.Record{good, {Fault: "no time can be read"}}}
	w.metrics.polled(part, now)
	w.metrics.applied(part, trade.Applied{Rows: 1, Invalid: 1}, now)
	run := &running{Worker: w, t: t, reg: reg}
	assert.InDelta(t, 1, run.value("tradestore_apply_poll_delay_seconds"), 0)
	assert.InDelta(t, 1, run.value("tradestore_projection_end_to_end_seconds"), 0)
	assert.InDelta(t, 1, run.value("tradestore_projection_outcomes_total", "SUCCESS"), 0)
	assert.InDelta(t, 1, run.value("tradestore_projection_outcomes_total", "FAILED"), 0)
	assert.InDelta(t, 0, run.value("tradestore_projection_delay_seconds"), 0)
}

func TestCountingRecordsAllocatesNothing(t *testing.T) {
	r := newFixture(t, 1)
	deps := r.deps(prometheus.NewRegistry())
	deps.OutcomesAtCommit = true
	w, err := New(r.config(), deps)
	require.NoError(t, err)
	now := time.Now()
	part := &trade.Batch{Records: make([]trade.Record, 1000)}
	for i := range part.Records {
		part.Records[i].AcceptedAt = now.Add(-time.Duration(i) * time.Millisecond)
	}
	assert.Less(t, testing.AllocsPerRun(10, func() {
		w.metrics.polled(part, now)
		w.metrics.applied(part, trade.Applied{Rows: 1000}, now)
	}), 10.0)
}

// Bad records in the log, or an outage, must not fill the disk with log lines.
func TestLinesAboutRecordsAreSampled(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 1)
	out := &syncBuffer{}
	deps := r.deps(prometheus.NewRegistry())
	deps.Log = zerolog.New(out)
	w, err := New(r.config(), deps)
	require.NoError(t, err)
	part := &trade.Batch{}
	for range 500 {
		part.Records = append(part.Records, trade.Record{
			Request: r.request("T-1", 1, "secret"), Offset: 7, Value: []byte("secret"), Fault: "the store refuses the record",
		})
	}
	w.lanes[0].finish(part, trade.Applied{DeadLetters: len(part.Records), Invalid: len(part.Records)})
	lines := slices.Collect(strings.Lines(out.String()))
	require.NotEmpty(t, lines)
	assert.Less(t, len(lines), 100)
	assert.NotContains(t, out.String(), "secret")
	var line map[string]any
	require.NoError(t, json.Unmarshal([]byte(lines[0]), &line))
	assert.Equal(t, "warn", line["level"])
	assert.Equal(t, "corr", line["correlation_id"])
	assert.Equal(t, part.Records[0].ID.String(), line["request_id"])
	assert.Equal(t, "T-1", line["trade_id"])
	assert.EqualValues(t, 7, line["offset"])
}
