package loadtest

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var gap = math.NaN()

func inJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	require.NoError(t, err)
	return string(text)
}

func TestGapsAreNull(t *testing.T) {
	assert.Equal(t, `[1,null,0.3333333,null,1e+09]`, inJSON(t, column{1, gap, 1.0 / 3, math.Inf(1), 1e9}))
	assert.Equal(t, `[]`, inJSON(t, column{}))
}

// A logarithmic axis has no place for 0, so a second without an answer is a gap.
func TestLatencyOfASecondWithoutAnswersIsAGap(t *testing.T) {
	c := latencyChart([]Second{{At: 0, P50: 0.001, P99: 0.002, Max: 0.003}, {At: 1}})
	assert.Equal(t, `[[0,1],[0.001,null],[0.002,null],[0.003,null]]`, inJSON(t, c.Data))
	assert.False(t, c.Empty())
	assert.True(t, new(latencyChart([]Second{{At: 0}, {At: 1}})).Empty())
	assert.True(t, new(latencyChart(nil)).Empty())
}

// A search for the capacity sends, drains and sends again.
func TestNothingIsDrawnBetweenTwoLoads(t *testing.T) {
	timeline := []Second{{At: 0, P50: 1, P99: 1, Max: 1}, {At: 1, P50: 1, P99: 1, Max: 1},
		{At: 5.2, P50: 1, P99: 1, Max: 1}}
	assert.Equal(t, `[[0,1,3.7,5.2],[1,1,null,1],[1,1,null,1],[1,1,null,1]]`, inJSON(t, latencyChart(timeline).Data))
	assert.Equal(t, `[[0,1,3.7,5.2],[0,0,null,0],[0,0,null,0],[0,0,null,0],[0,0,null,0]]`,
		inJSON(t, throughputChart(timeline).Data))
}

func TestSeriesShareAChartByGroupAndUnit(t *testing.T) {
	charts := seriesCharts([]Series{
		{Name: "server CPU", Group: "CPU", Unit: "cores", Points: []Sample{{0.1, 1}, {1.2, 2}}},
		{Name: "lag", Group: "Lag", Unit: "records", Points: []Sample{{0, 5}}},
		{Name: "worker CPU", Group: "CPU", Unit: "cores", Points: []Sample{{0.9, 3}, {2.04, 4}}},
		{Name: "age", Group: "Lag", Unit: "seconds"},
	})
	require.Len(t, charts, 3)
	assert.Equal(t, "CPU", charts[0].Title)
	assert.Equal(t, `[[0,1,2],[1,2,null],[null,3,4]]`, inJSON(t, charts[0].Data), "by whole seconds")
	assert.Equal(t, `[[0],[5]]`, inJSON(t, charts[1].Data))
	assert.True(t, charts[2].Empty())
	assert.Empty(t, seriesCharts(nil))
}

func TestPercentilesGiveEachNineTheSameRoom(t *testing.T) {
	r := &Report{
		Accept: Latency{Count: 999, Curve: []Quant{{0, 0.001}, {0.9, 0.002}, {0.99, 0.003}, {1, 0.004}}},
		Final:  Latency{Count: 99, Curve: []Quant{{0.9, 0.02}, {1, 0.04}}},
	}
	c := percentileChart(r)
	assert.Equal(t, `[[-0,1,2,3],[0.001,0.002,0.003,0.004],[null,null,null,null],[null,0.02,0.04,null]]`,
		inJSON(t, c.Data),
		"the slowest of 999 is at 99.9 %, that of 99 at 99 %")
	assert.True(t, new(percentileChart(&Report{})).Empty())
}

func TestCapacityChartsAreInOrderOfRate(t *testing.T) {
	charts := capacityCharts(&Capacity{Knee: 150, Steps: []Step{
		{Rate: 100, Sustained: true, Accepted: 80, AcceptP99: 0.01}, {Rate: 200, Accepted: 120, AcceptP99: 2, FinalP99: 3},
		{Rate: 150, Sustained: true, Accepted: 119},
	}})
	assert.Equal(t, `[[100,150,200],[80,119,null],[null,null,120]]`, inJSON(t, charts[0].Data))
	assert.Equal(t, `[[100,150,200],[0.01,null,2],[null,null,3]]`, inJSON(t, charts[1].Data))
	assert.Equal(t, []chartMark{{150, "knee"}}, charts[0].Marks)
	assert.Empty(t, capacityCharts(&Capacity{})[0].Marks)
}

func TestFiguresSumALineUp(t *testing.T) {
	c := chart{Unit: "seconds", Lines: []chartLine{{Name: "p50"}, {Name: "none"}},
		Data: []column{{0, 1, 2}, {0.001, gap, 0.003}, {gap, gap, gap}}}
	assert.Equal(t, []lineFigures{{"p50", "1 ms", "2 ms", "3 ms", "3 ms"}, {"none", "–", "–", "–", "–"}},
		c.Figures())
}
