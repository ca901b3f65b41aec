package dashboards

import (
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/stretchr/testify/require"
)

// panelsOf returns the panels of a dashboard without its rows.
func panelsOf(d model) []dashboard.Panel {
	var panels []dashboard.Panel
	for _, p := range d.Panels {
		if p.Panel != nil {
			panels = append(panels, *p.Panel)
		}
	}
	return panels
}

// exprsOf returns the expressions of a panel.
func exprsOf(t *testing.T, p dashboard.Panel) []string {
	t.Helper()
	var exprs []string
	for _, target := range p.Targets {
		query, ok := target.(*prometheus.Dataquery)
		require.True(t, ok, "%s has a query of type %T", *p.Title, target)
		exprs = append(exprs, query.Expr)
	}
	return exprs
}

func idOf(p dashboard.PanelOrRowPanel) (id uint32, title string) {
	if p.RowPanel != nil {
		return p.RowPanel.Id, *p.RowPanel.Title
	}
	return *p.Panel.Id, *p.Panel.Title
}

func gridOf(p dashboard.PanelOrRowPanel) dashboard.GridPos {
	if p.RowPanel != nil {
		return *p.RowPanel.GridPos
	}
	return *p.Panel.GridPos
}

// linksOf returns the kind of each link of a dashboard with where it leads.
func linksOf(d model) []string {
	var found []string
	for _, l := range d.Links {
		to := ""
		switch {
		case l.Url != nil:
			to = *l.Url
		case len(l.Tags) == 1:
			to = l.Tags[0]
		}
		found = append(found, string(l.Type)+" "+to)
	}
	return found
}
