package dashboards

import (
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/heatmap"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
	"github.com/grafana/grafana-foundation-sdk/go/units"
)

// Units that Grafana does not have.
const (
	tradesPerSecond  = "suffix: trades/s"
	recordsPerSecond = "suffix: records/s"
	itemsPerSecond   = "suffix: items/s"
	perSecond        = "suffix: /s"
	trades           = "suffix: trades"
	records          = "suffix: records"
	cores            = "suffix: cores"
)

// limits are the thresholds of a panel, lowest first.
type limits []dashboard.Threshold

// Build implements cog.Builder.
func (l limits) Build() (dashboard.ThresholdsConfig, error) {
	return dashboard.ThresholdsConfig{Mode: dashboard.ThresholdsModeAbsolute, Steps: l}, nil
}

func step(from float64, color string) dashboard.Threshold {
	return dashboard.Threshold{Value: &from, Color: color}
}

// unjudged is for values that are neither good nor bad by themselves.
func unjudged() limits { return limits{{Color: "green"}} }

// above turns orange and red as a value grows.
func above(orange, red float64) limits {
	return limits{{Color: "green"}, step(orange, "orange"), step(red, "red")}
}

// below turns orange and red as a value falls.
func below(orange, red float64) limits {
	return limits{{Color: "red"}, step(red, "orange"), step(orange, "green")}
}

// never is for what must not happen.
func never() limits { return limits{{Color: "green"}, step(1e-9, "red")} }

// built marks the 1,000 trades a second that Trade Store is built for. Other values are no fault.
func built() limits { return limits{{Color: "green"}, step(1000, "blue")} }

// rare is for faults that heal by themselves.
func rare() limits { return limits{{Color: "green"}, step(1e-9, "orange")} }

// lines draws each series over time, with the limits as dashed lines.
func lines(title, unit string, limits limits, about string, queries ...query) panel {
	draw := func(p panel) (dashboard.Panel, error) {
		mode := common.GraphThresholdsStyleModeDashed
		if len(p.limits) == 1 {
			mode = common.GraphThresholdsStyleModeOff
		}
		return timeseries.NewPanelBuilder().Unit(p.unit).Thresholds(p.limits).
			LineWidth(1).FillOpacity(8).ShowPoints(common.VisibilityModeNever).AxisSoftMin(0).
			ThresholdsStyle(common.NewGraphThresholdsStyleConfigBuilder().Mode(mode)).
			Legend(common.NewVizLegendOptionsBuilder().ShowLegend(true).DisplayMode(common.LegendDisplayModeTable).
				Placement(common.LegendPlacementBottom).Calcs([]string{"mean", "max", "lastNotNull"})).
			Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending)).
			Build()
	}
	return panel{draw: draw, height: 8, title: title, unit: unit, limits: limits, about: about, queries: queries}
}

// number shows the latest value, coloured by the limits.
func number(title, unit string, limits limits, about string, queries ...query) panel {
	draw := func(p panel) (dashboard.Panel, error) {
		return stat.NewPanelBuilder().Unit(p.unit).Thresholds(p.limits).
			ColorMode(common.BigValueColorModeBackground).GraphMode(common.BigValueGraphModeArea).
			ReduceOptions(common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"})).
			Build()
	}
	return panel{draw: draw, height: 5, title: title, unit: unit, limits: limits, about: about, queries: queries}
}

// heat shows how a histogram's values spread over time.
func heat(title, unit, about, histogram, labels string) panel {
	draw := func(p panel) (dashboard.Panel, error) {
		return heatmap.NewPanelBuilder().Unit(p.unit).Thresholds(p.limits).
			YAxis(heatmap.NewYAxisConfigBuilder().Unit(p.unit).AxisPlacement(common.AxisPlacementLeft)).
			Build()
	}
	queries := []query{q("{{le}}", fmt.Sprintf(`sum by (le) (rate(%s_bucket{@%s}[$__rate_interval]))`, histogram,
		also(labels)))}
	return panel{draw: draw, height: 8, title: title, unit: unit, limits: unjudged(), about: about, queries: queries}
}

// quantile is the quantile of a histogram over the processes chosen.
func quantile(legend string, phi float64, histogram, labels string) query {
	return q(legend, fmt.Sprintf(`histogram_quantile(%g, sum by (le) (rate(%s_bucket{@%s}[$__rate_interval])))`, phi,
		histogram, also(labels)))
}

// slowest is the 99th percentile for each value of some labels, without those for which nothing was observed.
func slowest(legend, histogram, by string) query {
	return q(legend, fmt.Sprintf(`histogram_quantile(0.99, sum by (le, %s) (rate(%s_bucket{@}[$__rate_interval]))) >= 0`,
		by, histogram))
}

// mean is the mean of a histogram, without a value while nothing was observed.
func mean(legend, histogram, labels string) query {
	return q(legend, fmt.Sprintf(`sum(rate(%[1]s_sum{@%[2]s}[$__rate_interval])) / `+
		`(sum(rate(%[1]s_count{@%[2]s}[$__rate_interval])) > 0)`,
		histogram, also(labels)))
}

// spread draws the median and the 99th percentile of a time.
func spread(title string, limits limits, about, histogram, labels string) panel {
	return lines(title, units.Seconds, limits, about,
		quantile("p50", 0.5, histogram, labels), quantile("p99", 0.99, histogram, labels))
}

// sizes are the mean and the 99th percentile of a histogram of whole numbers, whose small quantiles would be fractions.
func sizes(histogram string) []query {
	return []query{mean("mean", histogram, ""), quantile("p99", 0.99, histogram, "")}
}

// also appends labels to those of {@}.
func also(labels string) string {
	if labels == "" {
		return ""
	}
	return "," + labels
}
