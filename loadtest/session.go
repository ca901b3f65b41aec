package loadtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"tradestore/internal/apiclient"
)

const (
	referBack   = 2 * time.Second  // how far back operations refer: by then a trade is usually stored
	apiConns    = 64               // for following and comparing, beside those of the load
	apiTimeout  = 10 * time.Second // for one read
	openTimeout = 10 * time.Second // for opening the database
)

// session is the shared state of all attacks of a run.
type session struct {
	cfg      Config
	env      Env
	progress *Progress
	mix      Mix
	stages   []Stage
	seed     uint64
	run      string // begins every trade id
	used     uint64 // operations of the attacks so far

	stack      *Stack // nil: the target is external
	target     *url.URL
	deployment string // what runs at the target, as far as it is known
	server     string // build
	api        *API
	database   *Database // nil: HTTP alone
	lag        *lag      // nil: use the lag of the worker
	monitor    *Monitor
	began      time.Time
	notes      []string
	current    atomic.Pointer[Results] // of the current attack
}

// prepare prepares everything for the first operation. On an error nothing is left running.
func prepare(ctx context.Context, cfg Config, env Env) (*session, error) {
	s := &session{cfg: cfg, env: env, progress: NewProgress(env.Progress, env.Terminal)}
	if err := s.plan(time.Now()); err != nil {
		return nil, err
	}
	if err := s.connect(ctx); err != nil {
		s.close()
		return nil, err
	}
	s.progress.Say("run %s against %s, seed %d", s.run, strings.TrimSpace(s.cfg.Target+" "+s.deployment), s.seed)
	return s, nil
}

// plan reads the settings of the load.
func (s *session) plan(now time.Time) error {
	if err := s.cfg.Validate(); err != nil {
		return err
	}
	var err error
	s.mix, s.stages = DefaultMix, []Stage{{s.cfg.Rate, s.cfg.Rate, s.cfg.Duration}}
	if s.cfg.Mix != "" {
		if s.mix, err = ParseMix(s.cfg.Mix); err != nil {
			return err
		}
	}
	if s.cfg.Stages != "" {
		if s.stages, err = ParseStages(s.cfg.Stages); err != nil {
			return err
		}
	}
	s.seed = cmp.Or(s.cfg.Seed, rand.Uint64N(1<<53)) // exact in any reader of JSON
	s.run = fmt.Sprintf("%s-%04x", now.UTC().Format("20060102-150405"), rand.Uint32N(1<<16))
	return nil
}

func (s *session) schedule() Schedule { return NewSchedule(s.cfg.Warmup, s.stages) }

// connect connects to the target and starts the monitor.
func (s *session) connect(ctx context.Context) error {
	if s.cfg.Target == "" {
		if err := s.startStack(ctx); err != nil {
			return err
		}
	}
	var err error
	if s.target, err = baseURL(s.cfg.Target); err != nil {
		return err
	}
	if err := apiclient.Ready(ctx, s.cfg.Target); err != nil {
		return fmt.Errorf("the target is not ready (--target): %w", err)
	}
	s.api = NewAPI(s.target, apiConns, apiTimeout)
	if s.cfg.DatabaseURL != "" {
		opening, cancel := context.WithTimeout(ctx, openTimeout)
		defer cancel()
		if s.database, err = OpenDatabase(opening, s.cfg.DatabaseURL); err != nil {
			return err
		}
	}
	sources, err := s.sources(ctx)
	if err != nil {
		return err
	}
	s.monitor, s.began = NewMonitor(sources...), time.Now()
	s.monitor.Start(context.WithoutCancel(ctx), s.began)
	return nil
}

// startStack starts the embedded stack as the target.
func (s *session) startStack(ctx context.Context) error {
	if s.env.Self == "" {
		return errors.New("there is no embedded stack to test: name a target with --target")
	}
	end := s.progress.Phase(func() string { return "start     the embedded stack" })
	stack, err := StartStack(ctx, s.env.Self)
	end()
	if err != nil {
		return err
	}
	s.stack, s.deployment = stack, "embedded Kafka and PostgreSQL, one process"
	s.cfg.Target, s.cfg.WorkerURL = stack.API, stack.Worker
	s.cfg.DatabaseURL, s.cfg.KafkaBrokers = stack.Database, []string{stack.Kafka}
	return nil
}

// sources returns all sources that the settings allow.
func (s *session) sources(ctx context.Context) ([]Source, error) {
	sources := []Source{generatorSource(func() float64 {
		if results := s.current.Load(); results != nil {
			return float64(results.Count().InFlight)
		}
		return 0
	})}
	at := endpoints{roles: []string{hostPort(s.target, "80")}, stores: []store{{"Kafka", s.cfg.KafkaBrokers}}}
	server, err := identify(ctx, s.target)
	if err != nil {
		s.notes = append(s.notes, "the server's CPU, memory and queue: "+err.Error())
	}
	s.server = server.build
	serverName := "server"
	if s.cfg.WorkerURL != "" {
		worker, err := baseURL(s.cfg.WorkerURL)
		if err != nil {
			return nil, err
		}
		at.roles = append(at.roles, hostPort(worker, "80"))
		if _, err := identify(ctx, worker); err != nil {
			s.notes = append(s.notes, "the worker's CPU, memory and lag: "+err.Error())
		}
		both := oneProcess(ctx, s.target, worker)
		if both {
			serverName = "dev"
			s.deployment = cmp.Or(s.deployment, "server and worker in one process")
		}
		sources = append(sources, metricsSource(worker, "worker", !both))
	}
	sources = append(sources, metricsSource(s.target, serverName, true))
	if s.cfg.DatabaseURL != "" {
		if u, err := url.Parse(s.cfg.DatabaseURL); err == nil {
			at.stores = append(at.stores, store{"PostgreSQL", []string{hostPort(u, "5432")}})
		}
	}
	if len(s.cfg.KafkaBrokers) > 0 {
		if s.lag, err = openLag(ctx, s.cfg.KafkaBrokers, s.cfg.Topic, s.cfg.KafkaGroup, s.cfg.DatabaseURL); err != nil {
			return nil, err
		}
		sources = append(sources, s.lag.source())
	}
	return append(sources, localSources(at)...), nil
}

// close closes everything. The stack drains.
func (s *session) close() {
	if s.monitor != nil {
		s.monitor.Stop()
	}
	if s.lag != nil {
		s.lag.close()
	}
	if s.database != nil {
		s.database.Close(context.Background())
	}
	if s.api != nil {
		s.api.Close()
	}
	if s.stack != nil {
		end := s.progress.Phase(func() string { return "stop      the embedded stack" })
		err := s.stack.Close()
		end()
		if err != nil {
			s.progress.Say("%v", err)
		}
	}
}

// watch calls end if the stack ends by itself, until off is called.
func (s *session) watch(end func()) (off func()) {
	if s.stack == nil {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		select {
		case <-s.stack.child.Done():
			end()
		case <-done:
		}
	}()
	return func() { close(done) }
}

func (s *session) stackEnded() string {
	if s.stack == nil {
		return ""
	}
	return s.stack.Ended()
}

// lagRecords returns how many records are not applied yet: as seen from outside, or as the worker says.
func (s *session) lagRecords() (float64, bool) {
	if records, ok := s.monitor.Latest(lagSeries); ok {
		return records, true
	}
	return s.monitor.Latest(workerLag)
}

func (s *session) lagText() string {
	if records, ok := s.lagRecords(); ok {
		return "   lag " + asNumber(records)
	}
	return ""
}

// liveLine is the progress line under load.
func (s *session) liveLine(a *attack) string {
	c, at, phase := a.results.Count(), a.results.Now(), "load"
	if at >= a.schedule.Length() {
		return fmt.Sprintf("load      waiting for %s answers%s", asCount(c.InFlight), s.lagText())
	}
	if _, warmup := a.schedule.Warm(); at < warmup {
		phase = "warm up"
	}
	return fmt.Sprintf("%-9s %s of %s   %s/s of %s/s   %s accepted   %s errors   p99 %s%s   %s left", phase,
		at.Truncate(time.Second), brief(a.schedule.Length().Round(time.Second)), asNumber(c.SentPerSecond),
		asNumber(a.schedule.Rate(at)),
		asCount(c.Accepted), asCount(c.Errors), asSeconds(c.P99.Seconds()), s.lagText(),
		(a.schedule.Length() - at).Round(time.Second))
}

// baseURL parses an address that Validate has checked.
func baseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("cannot read the address %q: %w", text, err)
	}
	u.Path = "/" // without it, joined paths would be relative
	return u, nil
}
