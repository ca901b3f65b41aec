package loadtest

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed" // for the files of the page
	"encoding/base64"
	"fmt"
	"html/template"
	"slices"
	"strings"
)

// The page is one file that needs no network. uPlot 1.6.32 (MIT, from npm) draws the charts: dist/uPlot.iife.min.js,
// dist/uPlot.min.css and LICENSE are copied without changes.
var (
	//go:embed assets/report.html
	pageText string
	//go:embed assets/report.css
	pageStyle string
	//go:embed assets/report.js
	pageScript string
	//go:embed assets/uplot.min.js
	plotScript string
	//go:embed assets/uplot.min.css
	plotStyle string
	//go:embed assets/uplot.LICENSE
	plotLicence string
)

// withScript marks a page whose script runs before the first paint, so that nothing moves later.
const withScript = `document.documentElement.className='js'`

var pageTemplate = template.Must(template.New("report").Funcs(template.FuncMap{
	"count": asCount, "number": asNumber, "seconds": asSeconds, "took": asTook, "share": asShare,
	"lower": strings.ToLower, "plural": plural, "answers": mostFrequent, "words": describeSchedule,
}).Parse(pageText))

// htmlPage is the data of the template.
type htmlPage struct {
	*Report
	Policy             string
	Style              template.CSS
	Flag, Plot, Script template.JS
	Latencies          []latencyRow
	Violations         []violationRow

	Latency, Throughput, Measured, Steps []chart
	Data                                 pageData
}

// pageData is the data of the script.
type pageData struct {
	Until  float64 `json:"until"`  // the end of the time axis of all charts, in seconds
	Warmup float64 `json:"warmup"` // seconds
	End    float64 `json:"end"`    // of the load
	Charts []chart `json:"charts"`
}

// latencyRow is a line of the table of latencies.
type latencyRow struct {
	Name, Means string
	Latency
}

// violationRow is one kind of violation and its offenders.
type violationRow struct {
	Name, Means string
	Offenders
}

// writeHTML makes the page. The template escapes all text except the embedded files.
func writeHTML(r *Report) ([]byte, error) {
	p := htmlPage{Report: r, Latencies: r.latencies(), Violations: r.Reconciliation.violations()}
	licence := "/*! uPlot\n" + strings.ReplaceAll(plotLicence, "*/", "") + "*/\n"
	p.Style = template.CSS(plotStyle + pageStyle)                       //nolint:gosec // ours
	p.Flag, p.Script = template.JS(withScript), template.JS(pageScript) //nolint:gosec // ours
	p.Plot = template.JS(licence + plotScript)                          //nolint:gosec // embedded
	p.Policy = pagePolicy(string(p.Style), string(p.Flag), string(p.Plot), string(p.Script))

	p.Latency = nonEmpty(latencyChart(r.Timeline), percentileChart(r))
	p.Throughput = nonEmpty(throughputChart(r.Timeline))
	p.Measured = nonEmpty(seriesCharts(r.Series)...)
	if r.Capacity != nil {
		p.Steps = nonEmpty(capacityCharts(r.Capacity)...)
	}
	p.Data = pageData{Charts: append([]chart{}, slices.Concat(p.Steps, p.Latency, p.Throughput, p.Measured)...)}
	for _, c := range p.Data.Charts {
		if c.X == overTime {
			p.Data.Until = max(p.Data.Until, slices.Max(c.Data[0])+1)
		}
	}
	if n := len(r.Timeline); n > 0 && r.Capacity == nil { // a search has many of both
		p.Data.Warmup, p.Data.End = r.Load.Warmup, r.Timeline[n-1].At+1
	}

	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, p); err != nil {
		return nil, fmt.Errorf("cannot make the page of the report: %w", err)
	}
	return b.Bytes(), nil
}

// pagePolicy lets the browser run only our scripts, whatever text the report contains.
func pagePolicy(style string, scripts ...string) string {
	hash := func(text string) string {
		sum := sha256.Sum256([]byte(text))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	allowed := make([]string, len(scripts))
	for i, s := range scripts {
		allowed[i] = hash(s)
	}
	return "default-src 'none'; script-src " + strings.Join(allowed, " ") + "; style-src " + hash(style) +
		"; base-uri 'none'; form-action 'none'"
}

// nonEmpty removes empty charts.
func nonEmpty(charts ...chart) []chart {
	return slices.DeleteFunc(charts, func(c chart) bool { return c.Empty() })
}

// latencies lists the distributions in the order of the life of a trade.
func (r *Report) latencies() []latencyRow {
	return []latencyRow{
		{"accept", "of 202s, from their due time", r.Accept},
		{"from sending", "the same, from when they were sent", r.Sent},
		{"final status", "of the trades that were followed, from their due time", r.Final},
	}
}

// Broken counts all violations.
func (r *Reconciliation) Broken() uint64 {
	return r.Lost.Count + r.Doubled.Count + r.Stuck.Count + r.Wrong.Count
}

// violations lists the kinds of violations.
func (r *Reconciliation) violations() []violationRow {
	return []violationRow{
		{"lost", "accepted but missing", r.Lost},
		{"doubled", "decided twice, or stored but never sent", r.Doubled},
		{"stuck", "still PENDING at the end of the wait", r.Stuck},
		{"wrong", "another outcome or content than the answers allow", r.Wrong},
	}
}

// answerCount is an answer and its count.
type answerCount struct {
	Name  string
	Count uint64
}

// mostFrequent lists the answers to a kind, the most frequent first.
func mostFrequent(k KindAnswers) []answerCount {
	all := make([]answerCount, 0, len(k.Counts))
	for name, count := range k.Counts {
		all = append(all, answerCount{name, count})
	}
	slices.SortFunc(all, func(a, b answerCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Name, b.Name))
	})
	return all
}
