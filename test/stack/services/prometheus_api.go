package services

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Series is one line of a result.
type Series struct {
	Labels map[string]string
	Values []float64 // by time, the latest last; of a native histogram, its sum
}

// Query evaluates an expression now. A scalar is one series without labels. Errors: Prometheus refuses it and says why.
func (p *Prometheus) Query(ctx context.Context, expr string) ([]Series, error) {
	return p.series(ctx, "query", url.Values{"query": {expr}})
}

// QueryRange evaluates an expression for each step of the time up to now, as a panel does.
func (p *Prometheus) QueryRange(ctx context.Context, expr string, back, step time.Duration) ([]Series, error) {
	now := time.Now()
	return p.series(ctx, "query_range", url.Values{
		"query": {expr}, "start": {seconds(now.Add(-back))}, "end": {seconds(now)},
		"step": {strconv.FormatFloat(step.Seconds(), 'f', -1, 64)},
	})
}

func seconds(at time.Time) string {
	return strconv.FormatFloat(float64(at.UnixMilli())/1e3, 'f', 3, 64)
}

func (p *Prometheus) series(ctx context.Context, call string, form url.Values) ([]Series, error) {
	var data struct {
		ResultType string
		Result     json.RawMessage
	}
	if err := p.ask(ctx, call, form, &data); err != nil {
		return nil, fmt.Errorf("cannot evaluate %s: %w", form.Get("query"), err)
	}
	if data.ResultType == "scalar" {
		var one point
		err := json.Unmarshal(data.Result, &one)
		return []Series{{Values: []float64{one.value}}}, err
	}
	var rows []struct {
		Metric             map[string]string
		Value, Histogram   *point
		Values, Histograms []point
	}
	if err := json.Unmarshal(data.Result, &rows); err != nil {
		return nil, fmt.Errorf("cannot read the result of %s: %w", form.Get("query"), err)
	}
	found := make([]Series, 0, len(rows))
	for _, row := range rows {
		s := Series{Labels: row.Metric}
		for _, one := range []*point{row.Value, row.Histogram} {
			if one != nil {
				s.Values = append(s.Values, one.value)
			}
		}
		for _, one := range slices.Concat(row.Values, row.Histograms) {
			s.Values = append(s.Values, one.value)
		}
		found = append(found, s)
	}
	return found, nil
}

// point is a pair of a time and a number in quotes, or a native histogram.
type point struct{ value float64 }

// UnmarshalJSON reads the pair.
func (p *point) UnmarshalJSON(text []byte) error {
	var pair [2]json.RawMessage
	if err := json.Unmarshal(text, &pair); err != nil {
		return err
	}
	var number string
	if strings.HasPrefix(string(pair[1]), "{") {
		var histogram struct{ Sum string }
		if err := json.Unmarshal(pair[1], &histogram); err != nil {
			return err
		}
		number = histogram.Sum
	} else if err := json.Unmarshal(pair[1], &number); err != nil {
		return err
	}
	var err error
	p.value, err = strconv.ParseFloat(number, 64)
	return err
}

// Rule is a recording or an alerting rule as the server evaluated it last.
type Rule struct {
	Name      string
	Type      string // recording or alerting
	Health    string // ok, err, or unknown before the first evaluation
	LastError string
	State     string // of an alert: inactive, pending, firing
	Labels    map[string]string
	Alerts    []Alert
}

// Alert is one instance of an alerting rule that is pending or firing.
type Alert struct {
	State       string
	Labels      map[string]string
	Annotations map[string]string
	Value       string
}

// Rules lists all rules of all groups.
func (p *Prometheus) Rules(ctx context.Context) ([]Rule, error) {
	var data struct{ Groups []struct{ Rules []Rule } }
	if err := p.ask(ctx, "rules", nil, &data); err != nil {
		return nil, fmt.Errorf("cannot list the rules: %w", err)
	}
	var all []Rule
	for _, group := range data.Groups {
		all = append(all, group.Rules...)
	}
	return all, nil
}

// Alerts lists what is pending or firing.
func (p *Prometheus) Alerts(ctx context.Context) ([]Alert, error) {
	var data struct{ Alerts []Alert }
	if err := p.ask(ctx, "alerts", nil, &data); err != nil {
		return nil, fmt.Errorf("cannot list the alerts: %w", err)
	}
	return data.Alerts, nil
}

// ask calls the HTTP API and decodes the data of its answer.
func (p *Prometheus) ask(ctx context.Context, call string, form url.Values, data any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL()+"/api/v1/"+call+"?"+form.Encode(), http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("it answers %s: %w", resp.Status, err)
	}
	if answer.Status != "success" {
		return fmt.Errorf("it answers %s: %s", resp.Status, answer.Error)
	}
	return json.Unmarshal(answer.Data, data)
}
