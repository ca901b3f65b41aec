package dashboards

import (
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"

	"tradestore/dashboards/rules"
)

// chosen selects what was chosen at the top of the dashboard.
const chosen = `job=~"$job",instance=~"$instance"`

// The grid is 24 columns wide.
const (
	gridWidth     = 24
	panelsAbreast = 4
)

var source = common.DataSourceRef{Type: new("prometheus"), Uid: new("${datasource}")}

// model is the form that every Grafana since version 8 reads. The SDK prefers one for the newest only.
type model = dashboard.Dashboard //nolint:staticcheck // as said above

var newModel = dashboard.NewDashboardBuilder //nolint:staticcheck // as said above

// build puts the page into the frame that all dashboards have: variables, links, marks of alerts and restarts.
func (p page) build() (model, error) {
	b := newModel(p.title).
		Uid(p.uid).
		Description(p.about).
		Tags([]string{tag, "generated"}).
		Timezone("browser").
		Tooltip(dashboard.DashboardCursorSyncCrosshair).
		Time(p.since, "now").
		Refresh(p.refresh).
		Readonly().
		Variables(append(variables(), p.variables...)).
		Links(links()).
		Annotations(annotations())
	id := uint32(0)
	for _, row := range p.rows {
		id++
		b.WithRow(dashboard.NewRowBuilder(row.title).Id(id))
		var at dashboard.GridPos
		for _, panel := range row.panels {
			at.H = max(at.H, panel.height)
		}
		for i, panel := range row.panels {
			if i%panelsAbreast == 0 { // what is left shares the width
				at.W = uint32(gridWidth / min(len(row.panels)-i, panelsAbreast))
			}
			id++
			b.WithPanel(placed{panel, id, at})
		}
	}
	return b.Build()
}

// variables are the choices at the top of every dashboard. The address of the runbooks is hidden.
func variables() []cog.Builder[dashboard.VariableModel] {
	choice := func(name, label, about, query string) cog.Builder[dashboard.VariableModel] {
		return dashboard.NewQueryVariableBuilder(name).Label(label).Description(about).
			Datasource(source).Query(text(query)).Refresh(dashboard.VariableRefreshOnTimeRangeChanged).
			Sort(dashboard.VariableSortAlphabeticalAsc).Multi(true).IncludeAll(true).AllValue(".+").Current(everything)
	}
	return []cog.Builder[dashboard.VariableModel]{
		dashboard.NewDatasourceVariableBuilder("datasource").Label("Data source").Description("The Prometheus that " +
			"scrapes Trade Store.").Type("prometheus"),
		choice("job", "Job", "Scrape jobs: servers and workers.", `label_values(tradestore_build_info, job)`),
		choice("instance", "Instance", "Single processes of these jobs.",
			`label_values(tradestore_build_info{job=~"$job"}, instance)`),
		dashboard.NewIntervalVariableBuilder("interval").Label("Interval").Description("The shortest step between two " +
			"points.").
			Values(text("5s,15s,30s,1m,5m,15m,1h")).Current(option("15s")),
		dashboard.NewConstantVariableBuilder("runbook_base").Label("Runbooks").Description("Address of docs/runbooks.md.").
			Value(text(rules.Runbooks)),
	}
}

// links lead to the other dashboards, with choices and time range kept, and to the runbooks.
func links() []cog.Builder[dashboard.DashboardLink] {
	return []cog.Builder[dashboard.DashboardLink]{
		dashboard.NewDashboardLinkBuilder("Trade Store").Type(dashboard.DashboardLinkTypeDashboards).Tags([]string{tag}).
			AsDropdown(false).IncludeVars(true).KeepTime(true),
		dashboard.NewDashboardLinkBuilder("Runbooks").Type(dashboard.DashboardLinkTypeLink).Icon("doc").
			Tooltip("What to do for each alert").Url("${runbook_base}").TargetBlank(true),
	}
}

// runbook links to the entry of an alert.
func runbook(alert string) dashboard.DashboardLink {
	return dashboard.DashboardLink{Title: "Runbook: " + alert, Type: dashboard.DashboardLinkTypeLink, Icon: "doc",
		Url: new("${runbook_base}#" + strings.ToLower(alert)), Tags: []string{}, TargetBlank: true}
}

// marks are annotations on every graph.
var marks = []struct {
	name, color string
	query       query
}{
	{"Alerts", "red", q("{{alertname}}", `sum by (alertname) (ALERTS{alertstate="firing",alertname=~"Tradestore.*"})`).
		empty("no alert fires; filled by killing a worker")},
	{"Starts", "blue", q("{{job}} {{instance}} started", `changes(process_start_time_seconds{@}[$__rate_interval]) > 0`).
		empty("no process was started again; filled by restarting one at the same address")},
}

func annotations() []cog.Builder[dashboard.AnnotationQuery] {
	var list []cog.Builder[dashboard.AnnotationQuery]
	for _, m := range marks {
		list = append(list, dashboard.NewAnnotationQueryBuilder().Name(m.name).Enable(true).IconColor(m.color).
			Datasource(source).Expr(m.query.expr).TitleFormat(m.query.legend))
	}
	return list
}

// placed is a panel with its position in the dashboard.
type placed struct {
	panel
	id uint32
	at dashboard.GridPos // its size; the builder lines them up
}

// Build adds what all kinds of panels have.
func (p placed) Build() (dashboard.Panel, error) {
	drawn, err := p.draw(p.panel)
	if err != nil {
		return dashboard.Panel{}, err
	}
	drawn.Id, drawn.Title, drawn.Description, drawn.Datasource, drawn.Interval = &p.id, &p.title, &p.about, &source,
		new("$interval")
	drawn.GridPos = &p.at
	for i, q := range p.queries {
		target := prometheus.NewDataqueryBuilder().RefId(string(rune('A' + i))).Datasource(source).
			Expr(q.expr).LegendFormat(q.legend).Range().EditorMode(prometheus.QueryEditorModeCode)
		if strings.Contains(q.expr, "_bucket{") {
			target.Exemplar(true)
		}
		if drawn.Type == "heatmap" {
			target.Format(prometheus.PromQueryFormatHeatmap)
		}
		built, err := target.Build()
		if err != nil {
			return dashboard.Panel{}, err
		}
		drawn.Targets = append(drawn.Targets, built)
	}
	for _, alert := range p.alerts {
		drawn.Links = append(drawn.Links, runbook(alert))
	}
	return drawn, nil
}

func text(s string) dashboard.StringOrMap { return dashboard.StringOrMap{String: &s} }

func option(value string) dashboard.VariableOption {
	one := dashboard.StringOrArrayOfString{String: &value}
	return dashboard.VariableOption{Selected: new(true), Text: one, Value: one}
}

// everything is the option that selects all values.
var everything = dashboard.VariableOption{
	Selected: new(true),
	Text:     dashboard.StringOrArrayOfString{ArrayOfString: []string{"All"}},
	Value:    dashboard.StringOrArrayOfString{ArrayOfString: []string{"$__all"}},
}
