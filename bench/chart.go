package main

import (
	"bytes"
	_ "embed" // the template
	"fmt"
	"math"
	"text/template"
)

//go:embed results.svg.tmpl
var chartSource string

// chartTemplate needs no more than escaping for XML: all names come from this package.
var chartTemplate = template.Must(template.New("chart").Parse(chartSource))

// The geometry of the chart, in pixels at its natural size.
const (
	chartWidth = 840
	barLeft    = 300
	barWidth   = 360
	groupTop   = 34 // from a group's top to its first bar
	barHeight  = 18
	barStep    = 26
	groupGap   = 14
	headHeight = 56
	footHeight = 34
)

// drawing is the data of the template.
type drawing struct {
	Width, Height           int
	PaperWidth, PaperHeight int
	BarLeft, Track, Foot    int
	Ratios, Values          int     // where these columns end
	LimitAt                 float64 // where a ratio of 1 is
	Title, Under            string
	Groups                  []group
	Ticks                   []tick
}

type group struct {
	Y, Top, End  int // of the heading, and of the bars
	Title, Limit string
	Bars         []bar
}

type bar struct {
	Y                int
	Name             string
	Width, Low, High float64 // of the median, and where the spread begins and ends
	Ratio, Rate      string
}

type tick struct {
	X     float64
	Label string
}

// svg draws the ratio of each row to its limit as a bar, with the spread of the rounds as a line at its end. The limit
// is a dashed line.
func svg(title, under string, rows []row) ([]byte, error) {
	d := draw(title, under, rows)
	b := &bytes.Buffer{}
	if err := chartTemplate.Execute(b, d); err != nil {
		return nil, fmt.Errorf("cannot draw the chart: %w", err)
	}
	return b.Bytes(), nil
}

func draw(title, under string, rows []row) drawing {
	d := drawing{Width: chartWidth, BarLeft: barLeft, Track: barWidth, Ratios: chartWidth - 110, Values: chartWidth - 20,
		Title: title, Under: under}
	most := 1.0 // the limit is always on the scale
	for _, w := range rows {
		if w.chart {
			most = max(most, w.ratio.high)
		}
	}
	scale := func(ratio float64) float64 { return math.Round(10*ratio*barWidth/most) / 10 }
	y := headHeight
	for _, w := range rows {
		if !w.chart {
			continue
		}
		if n := len(d.Groups); n == 0 || d.Groups[n-1].Title != escapeXML(w.stage) {
			if n > 0 {
				y += groupGap
			}
			limit := fmt.Sprintf("%s, %s %s/s", w.limit, thousands(w.limitRate.median), w.unit)
			d.Groups = append(d.Groups, group{Y: y, Top: y + groupTop - 3, Title: escapeXML(w.stage), Limit: escapeXML(limit)})
			y += groupTop
		}
		g := &d.Groups[len(d.Groups)-1]
		g.Bars = append(g.Bars, bar{Y: y, Name: escapeXML(w.name), Width: scale(w.ratio.median),
			Low:  barLeft + scale(w.ratio.low),
			High: barLeft + scale(w.ratio.high), Ratio: digits(w.ratio.median), Rate: thousands(w.rate.median) + "/s"})
		y += barStep
		g.End = y - barStep + barHeight + 3
	}
	d.Foot, d.Height, d.LimitAt = y+14, y+footHeight, barLeft+scale(1)
	d.PaperWidth, d.PaperHeight = d.Width-1, d.Height-1
	step := 0.25
	for most > 8*step { // labels side by side
		step *= 2
	}
	for at := 0.0; at <= most+1e-9; at += step {
		d.Ticks = append(d.Ticks, tick{X: barLeft + scale(at), Label: fmt.Sprintf("%g", at)})
	}
	return d
}

func escapeXML(s string) string {
	b := &bytes.Buffer{}
	template.HTMLEscape(b, []byte(s))
	return b.String()
}
