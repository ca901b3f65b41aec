package services

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"tradestore/internal/proc"
)

// PrometheusConfig says where a Prometheus keeps its files and what it does.
type PrometheusConfig struct {
	Dir      string        // for data, settings and log; made when missing. One server at a time
	CacheDir string        // for the program, shared by all; empty: in the user's cache folder
	Port     int           // on 127.0.0.1; 0: the one of the last time if it is free, else any free one
	Interval time.Duration // between two scrapes of a target, and between two looks at the rules
	Targets  []Target
	Rules    []string // files
}

// Target is a process whose /metrics is read.
type Target struct {
	Job     string
	Address string            // host:port, and the label instance
	Labels  map[string]string // more of them
}

// Prometheus is a running server. It keeps native histograms beside classic ones, and exemplars.
type Prometheus struct{ *Process }

// StartPrometheus starts a server and returns when it answers queries. The first start on a machine builds it.
// Errors: proc.ErrPortTaken, ErrMissing.
func StartPrometheus(ctx context.Context, cfg PrometheusConfig) (*Prometheus, error) {
	p, err := preparePrometheus(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("cannot start Prometheus: %w", err)
	}
	if err := p.start(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

// URL is the base for clients.
func (p *Prometheus) URL() string { return "http://" + proc.Loopback(p.port) }

func preparePrometheus(ctx context.Context, cfg PrometheusConfig) (*Prometheus, error) {
	programs, err := FetchPrometheus(ctx, cfg.CacheDir)
	if err != nil {
		return nil, err
	}
	dir, err := makeDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	port, err := proc.ChoosePort(cfg.Port, filepath.Join(dir, "port"))
	if err != nil {
		return nil, err
	}
	settings, err := cfg.settings()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yaml"), settings, 0o600); err != nil {
		return nil, fmt.Errorf("cannot write settings: %w", err)
	}
	p := &Prometheus{&Process{name: "Prometheus", port: port, log: filepath.Join(dir, "prometheus.log")}}
	p.probe = func(ctx context.Context) error { return isOK(ctx, p.URL()+"/-/ready") }
	p.build = func() *exec.Cmd {
		cmd := exec.Command(filepath.Join(programs, "prometheus"), "--config.file=prometheus.yaml",
			"--storage.tsdb.path=data",
			"--web.listen-address="+proc.Loopback(port), "--enable-feature=exemplar-storage")
		cmd.Dir = dir
		return cmd
	}
	return p, nil
}

// settings are in JSON, which is YAML too.
func (c PrometheusConfig) settings() ([]byte, error) {
	if c.Interval <= 0 {
		return nil, errors.New("no interval given")
	}
	var rules []string
	for _, path := range c.Rules {
		absolute, err := filepath.Abs(path)
		if err != nil {
			return nil, fmt.Errorf("cannot find rules: %w", err)
		}
		rules = append(rules, absolute)
	}
	type object map[string]any
	jobs := map[string][]object{}
	for _, t := range c.Targets {
		jobs[t.Job] = append(jobs[t.Job], object{"targets": []string{t.Address}, "labels": t.Labels})
	}
	scrapes := []object{}
	for job, targets := range jobs {
		scrapes = append(scrapes, object{"job_name": job, "static_configs": targets})
	}
	interval := fmt.Sprintf("%dms", c.Interval.Milliseconds())
	return json.MarshalIndent(object{
		"global": object{
			"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval,
			"scrape_native_histograms": true, "always_scrape_classic_histograms": true,
		},
		"rule_files":     rules,
		"scrape_configs": scrapes,
	}, "", "  ")
}

func isOK(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", resp.Status)
	}
	return nil
}
