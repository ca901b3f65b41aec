package loadtest

import (
	"cmp"
	"math"
	"slices"
	"strconv"
)

// chart is one figure of the page. The script reads the JSON fields; the page shows the others, also without the
// script.
type chart struct {
	ID    string      `json:"id"`
	X     string      `json:"x"`    // seconds from the start, a share of all, or a rate
	Unit  string      `json:"unit"` // of the values
	Log   bool        `json:"log"`
	Lines []chartLine `json:"lines"`
	Data  []column    `json:"data"` // positions on the x axis, then the values of each line there
	Marks []chartMark `json:"marks,omitempty"`

	Title string `json:"-"`
	Note  string `json:"-"`
}

// The x axes.
const (
	overTime  = "time"
	overShare = "share" // logarithmic: each nine of a percentile has the same width
	overRate  = "rate"
)

// chartLine is one line of a chart.
type chartLine struct {
	Name string `json:"name"`
	Tone string `json:"tone"` // a colour of the style sheet
	Dots bool   `json:"dots,omitempty"`
}

// chartMark is a vertical line with a name.
type chartMark struct {
	At   float64 `json:"at"`
	Name string  `json:"name"`
}

// column holds the values of a line. NaN is a gap.
type column []float64

// MarshalJSON writes gaps as null, and only as many digits as a chart can show.
func (c column) MarshalJSON() ([]byte, error) {
	b := []byte{'['}
	for i, v := range c {
		if i > 0 {
			b = append(b, ',')
		}
		if math.IsNaN(v) || math.IsInf(v, 0) {
			b = append(b, "null"...)
		} else {
			b = strconv.AppendFloat(b, v, 'g', 7, 64)
		}
	}
	return append(b, ']'), nil
}

// lineFigures summarizes a line of a chart as text.
type lineFigures struct{ Name, Least, Mean, Most, Last string }

// Figures summarizes each line, for readers who cannot see the chart.
func (c *chart) Figures() []lineFigures {
	rows := make([]lineFigures, 0, len(c.Lines))
	for i, l := range c.Lines {
		least, most, sum, n, last := math.Inf(1), math.Inf(-1), 0.0, 0, math.NaN()
		for _, v := range c.Data[i+1] {
			if !math.IsNaN(v) {
				least, most, sum, n, last = min(least, v), max(most, v), sum+v, n+1, v
			}
		}
		if n == 0 {
			rows = append(rows, lineFigures{l.Name, "–", "–", "–", "–"})
			continue
		}
		rows = append(rows, lineFigures{l.Name, asAmount(least, c.Unit), asAmount(sum/float64(n), c.Unit),
			asAmount(most, c.Unit), asAmount(last, c.Unit)})
	}
	return rows
}

// Empty says that no line has a value.
func (c *chart) Empty() bool {
	for _, column := range c.Data[min(1, len(c.Data)):] {
		if slices.ContainsFunc(column, func(v float64) bool { return !math.IsNaN(v) }) {
			return false
		}
	}
	return true
}

// pause is the distance, in seconds, from which two seconds of load have a gap between them, as in a capacity search.
const pause = 1.5

// addTimeline adds the values of each second, with gaps at pauses.
func (c *chart) addTimeline(timeline []Second, values func(Second) []float64) {
	c.Data = make([]column, 1+len(c.Lines))
	for i, s := range timeline {
		if i > 0 && s.At > timeline[i-1].At+pause {
			c.add(s.At-pause, slices.Repeat([]float64{math.NaN()}, len(c.Lines))...)
		}
		c.add(s.At, values(s)...)
	}
}

// latencyChart shows the accept latency of each second. A second without an answer is a gap.
func latencyChart(timeline []Second) chart {
	c := chart{ID: "latency", Title: "Accept latency", X: overTime, Unit: "seconds", Log: true,
		Note:  "Of the 202s that were due in each second, from their due time.",
		Lines: []chartLine{{Name: "p50", Tone: "a"}, {Name: "p99", Tone: "b"}, {Name: "max", Tone: "c"}}}
	c.addTimeline(timeline, func(s Second) []float64 { return []float64{orGap(s.P50), orGap(s.P99), orGap(s.Max)} })
	return c
}

func throughputChart(timeline []Second) chart {
	c := chart{ID: "throughput", Title: "Throughput", X: overTime, Unit: "per second",
		Note: "Reads and invalid trades are sent too, so fewer are accepted than sent.",
		Lines: []chartLine{{Name: "asked", Tone: "d"}, {Name: "sent", Tone: "a"}, {Name: "accepted", Tone: "e"},
			{Name: "errors", Tone: "bad"}}}
	c.addTimeline(timeline, func(s Second) []float64 { return []float64{s.Asked, s.Sent, s.Accepted, s.Errors} })
	return c
}

// percentileChart draws the distributions on an axis of 90 %, 99 %, 99.9 % and so on, which shows the slow
// tail.
func percentileChart(r *Report) chart {
	c := chart{ID: "percentiles", Title: "Percentiles", X: overShare, Unit: "seconds", Log: true,
		Note: "The latency that a share of all operations did not exceed. A closed loop would hide the gap between the " +
			"first two lines."}
	points := func(curve []Quant, count uint64) []Sample {
		var samples []Sample
		for _, q := range curve {
			above := 1 - q.Q
			if q.Q >= 1 {
				above = 1 / float64(count+1) // the position of the slowest
			}
			samples = append(samples, Sample{math.Round(-1e6*math.Log10(above)) / 1e6, orGap(q.Seconds)})
		}
		return samples
	}
	c.join([]Series{
		{Name: "accept, from the due time", Points: points(r.Accept.Curve, r.Accept.Count)},
		{Name: "accept, from sending", Points: points(r.Sent.Curve, r.Sent.Count)},
		{Name: "final status", Points: points(r.Final.Curve, r.Final.Count)},
	})
	return c
}

// seriesCharts makes one chart for each group and unit, in order of appearance.
func seriesCharts(all []Series) []chart {
	type key struct{ group, unit string }
	var order []key
	groups := map[key][]Series{}
	for _, s := range all {
		k := key{s.Group, s.Unit}
		if groups[k] == nil {
			order = append(order, k)
		}
		groups[k] = append(groups[k], s)
	}
	charts := make([]chart, 0, len(order))
	for i, k := range order {
		c := chart{ID: "series" + strconv.Itoa(i), Title: capital(cmp.Or(k.group, k.unit)), X: overTime, Unit: k.unit}
		c.join(roundToSeconds(groups[k]))
		charts = append(charts, c)
	}
	return charts
}

// roundToSeconds moves each point to the nearest second, so that the crosshair of a chart meets all lines.
func roundToSeconds(all []Series) []Series {
	rounded := slices.Clone(all)
	for i := range rounded {
		rounded[i].Points = slices.Clone(rounded[i].Points)
		for j := range rounded[i].Points {
			rounded[i].Points[j].At = math.Round(rounded[i].Points[j].At)
		}
	}
	return rounded
}

// capacityCharts show the result of each rate that was tried.
func capacityCharts(c *Capacity) []chart {
	steps := slices.SortedStableFunc(slices.Values(c.Steps), func(a, b Step) int { return cmp.Compare(a.Rate, b.Rate) })
	accepted := chart{ID: "capacity-accepted", Title: "Accepted by rate", X: overRate, Unit: "per second",
		Lines: []chartLine{{Name: "sustained", Tone: "e", Dots: true}, {Name: "not sustained", Tone: "bad", Dots: true}},
		Data:  make([]column, 3)}
	latency := chart{ID: "capacity-latency", Title: "p99 by rate", X: overRate, Unit: "seconds", Log: true,
		Lines: []chartLine{{Name: "accept", Tone: "b", Dots: true}, {Name: "final status", Tone: "a", Dots: true}},
		Data:  make([]column, 3)}
	for _, s := range steps {
		good, bad := s.Accepted, math.NaN()
		if !s.Sustained {
			good, bad = bad, good
		}
		accepted.add(s.Rate, good, bad)
		latency.add(s.Rate, orGap(s.AcceptP99), orGap(s.FinalP99))
	}
	if c.Knee > 0 {
		accepted.Marks = []chartMark{{c.Knee, "knee"}}
		latency.Marks = accepted.Marks
	}
	return []chart{accepted, latency}
}

// add appends one position with a value for each line.
func (c *chart) add(at float64, values ...float64) {
	c.Data[0] = append(c.Data[0], at)
	for i, v := range values {
		c.Data[i+1] = append(c.Data[i+1], v)
	}
}

// join makes lines of series that have different positions.
func (c *chart) join(all []Series) {
	tones := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	var positions column
	for i, s := range all {
		c.Lines = append(c.Lines, chartLine{Name: s.Name, Tone: tones[i%len(tones)]})
		for _, p := range s.Points {
			positions = append(positions, p.At)
		}
	}
	slices.Sort(positions)
	positions = slices.Compact(positions)
	c.Data = []column{positions}
	for _, s := range all {
		values := slices.Repeat(column{math.NaN()}, len(positions))
		for _, p := range s.Points {
			if i, found := slices.BinarySearch(positions, p.At); found {
				values[i] = p.Value
			}
		}
		c.Data = append(c.Data, values)
	}
}

// orGap returns v, or a gap if a logarithmic axis cannot show v.
func orGap(v float64) float64 {
	if v > 0 {
		return v
	}
	return math.NaN()
}
