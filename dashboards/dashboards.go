// Package dashboards makes the Grafana dashboards of Trade Store. Each file describes one, top to bottom as it is
// shown. Their JSON is committed beside it; `make dashboards` writes it again after a change.
//
// In a query, {@} stands for the choice of job and instance at the top of the dashboard. Histograms are read by their
// classic buckets, which every Prometheus stores.
package dashboards

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// tag is on all dashboards and links them.
const tag = "tradestore"

// all lists the dashboards in the order in which an operator opens them.
var all = []page{overview, ingest, kafkaAndWorker, stores, runtimeAndCapacity, loadTest}

// page is one dashboard.
type page struct {
	file      string // of its JSON, without the extension
	uid       string // alerts link to it: it stays when the title changes
	title     string
	about     string
	since     string // default time range
	refresh   string // refresh interval
	variables []cog.Builder[dashboard.VariableModel]
	rows      []row
}

// row is a hop of a trade or a question. Its panels share the width, up to panelsAbreast.
type row struct {
	title  string
	panels []panel
}

// panel draws some queries.
type panel struct {
	draw    func(panel) (dashboard.Panel, error) // builds the part that is special to its kind
	height  uint32
	title   string
	unit    string
	limits  limits
	about   string // what is shown, and what a bad value means
	queries []query
	alerts  []string // it links to their runbooks
}

// alert links the panel to the runbooks of alerts that it shows the cause of.
func (p panel) alert(names ...string) panel {
	p.alerts = names
	return p
}

// query is one expression of a panel.
type query struct {
	legend  string
	expr    string
	emptyIf string
}

// q shows the series of expr under legend.
func q(legend, expr string) query {
	return query{legend: legend, expr: strings.NewReplacer("{@}", "{"+chosen+"}", "{@,", "{"+chosen+",").Replace(expr)}
}

// empty says why the query may return nothing in a healthy system, and what fills it.
func (q query) empty(why string) query {
	q.emptyIf = why
	return q
}

// NeedsExporter is the MayBeEmpty of queries that read the exporter of a store.
const NeedsExporter = "nothing without the exporter of the store, as in the compose profile observability"

// Query is one expression of one panel, for tests that run it. It holds the variables $job, $instance, $capacity and
// $__rate_interval.
type Query struct {
	Dashboard  string // uid
	Panel      string // title
	Expr       string
	MayBeEmpty string // why it may return nothing while all is well, and what fills it; empty when it must return data
}

// Queries returns the queries of all panels, in the order of the dashboards, and those of the marks on all of them.
func Queries() []Query {
	var queries []Query
	for _, m := range marks {
		queries = append(queries, Query{Dashboard: "all", Panel: m.name, Expr: m.query.expr, MayBeEmpty: m.query.emptyIf})
	}
	for _, page := range all {
		for _, row := range page.rows {
			for _, panel := range row.panels {
				for _, q := range panel.queries {
					queries = append(queries, Query{Dashboard: page.uid, Panel: panel.title, Expr: q.expr, MayBeEmpty: q.emptyIf})
				}
			}
		}
	}
	return queries
}

// Files returns the JSON of every dashboard by the name of its file.
func Files() (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, page := range all {
		model, err := page.build()
		if err != nil {
			return nil, fmt.Errorf("cannot build the dashboard %s: %w", page.uid, err)
		}
		text, err := json.MarshalIndent(model, "", "  ")
		if err != nil {
			return nil, fmt.Errorf("cannot write the dashboard %s as JSON: %w", page.uid, err)
		}
		files[page.file+".json"] = append(text, '\n')
	}
	return files, nil
}
