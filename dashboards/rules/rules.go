// Package rules makes the Prometheus rules of Trade Store: recorded series, and alerts with links to their dashboard
// and their runbook. The YAML is committed beside it; `make rules` writes it again after a change.
//
// Expressions and times are written as they run in production. Make can shorten all of them alike, so that a test sees
// the very same rules fire and resolve within minutes.
package rules

import (
	"bytes"
	"regexp"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
)

// Addresses in links: examples, replaced with `make rules ARGS="-dashboards ... -runbooks ..."`.
const (
	Dashboards = "https://grafana.example.com"
	Runbooks   = "https://example.com/tradestore/docs/runbooks.md"
)

// Alert is an alerting rule. Rules with other windows may share a name.
type Alert struct {
	Name        string
	Severity    string
	Labels      map[string]string // besides severity
	Expr        string
	For         string // how long Expr must hold without a gap; empty for at once
	Dashboard   string // uid of the dashboard that shows the cause
	Summary     string
	Description string // with the value
}

// Values of Severity: how soon to react.
const (
	Page   = "page"   // at once: clients are or will soon be affected
	Ticket = "ticket" // in working hours
)

// Runbook is the address of the heading of the alert in docs/runbooks.md.
func (a *Alert) Runbook() string { return Runbooks + "#" + strings.ToLower(a.Name) }

// Board is the address of its dashboard.
func (a *Alert) Board() string { return Dashboards + "/d/" + a.Dashboard }

// file, group and rule are what Prometheus reads.
type file struct {
	Groups []group `yaml:"groups"`
}

type group struct {
	Name     string `yaml:"name"`
	Interval string `yaml:"interval"`
	Rules    []rule `yaml:"rules"`
}

type rule struct {
	Record      string            `yaml:"record,omitempty"` // level:metric:operation
	Alert       string            `yaml:"alert,omitempty"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for,omitempty"`
	Labels      map[string]string `yaml:"labels,omitempty"`
	Annotations map[string]string `yaml:"annotations,omitempty"`
}

// The slow interval is still short enough that its series do not go stale.
const (
	interval     = "30s"
	slowInterval = "2m"
)

// Make returns the rule files by name. Windows, waits and intervals are multiplied by scale, which is 1 in production;
// names and thresholds stay what they are.
func Make(scale float64) map[string][]byte {
	recording := file{[]group{
		{"tradestore-flow", interval, flow()},
		{"tradestore-objectives", interval, objectivesFast()},
		{"tradestore-budgets", slowInterval, objectivesSlow()},
	}}
	alerting := file{[]group{{Name: "tradestore", Interval: interval}}}
	for _, a := range Alerts() {
		alerting.Groups[0].Rules = append(alerting.Groups[0].Rules, a.rule())
	}
	return map[string][]byte{"recording.yaml": recording.write(scale), "alerts.yaml": alerting.write(scale)}
}

func (a *Alert) rule() rule {
	labels := map[string]string{"severity": a.Severity}
	for name, value := range a.Labels {
		labels[name] = value
	}
	return rule{Alert: a.Name, Expr: a.Expr, For: a.For, Labels: labels, Annotations: map[string]string{
		"summary": a.Summary, "description": a.Description, "runbook_url": a.Runbook(), "dashboard_url": a.Board(),
	}}
}

func (f file) write(scale float64) []byte {
	for _, g := range f.Groups {
		for i := range g.Rules {
			g.Rules[i].Expr = scaledWindows(tidy(g.Rules[i].Expr), scale)
			g.Rules[i].For = scaled(g.Rules[i].For, scale, 0)
		}
	}
	for i := range f.Groups {
		f.Groups[i].Interval = scaled(f.Groups[i].Interval, scale, leastInterval)
	}
	var out bytes.Buffer
	out.WriteString("# Made by `make rules` from dashboards/rules/*.go.\n")
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(f); err != nil {
		panic(err) // a struct of strings, into memory
	}
	return out.Bytes()
}

// tidy removes the Go indentation of an expression.
func tidy(expr string) string {
	lines := strings.Split(strings.TrimSpace(expr), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "\n")
}

// Lower limits of shortened times: a rate needs two samples, scraped every second.
const (
	leastWindow   = 5 * time.Second
	leastInterval = time.Second
)

var window = regexp.MustCompile(`\[[0-9a-z]+\]`)

func scaledWindows(expr string, scale float64) string {
	return window.ReplaceAllStringFunc(expr, func(w string) string {
		return "[" + scaled(strings.Trim(w, "[]"), scale, leastWindow) + "]"
	})
}

// scaled shortens a duration of this package. It panics for an invalid one.
func scaled(duration string, scale float64, least time.Duration) string {
	if scale == 1 || duration == "" {
		return duration
	}
	d, err := model.ParseDuration(duration)
	if err != nil {
		panic(err)
	}
	return model.Duration(max(least, time.Duration(float64(d)*scale)).Round(time.Millisecond)).String()
}
