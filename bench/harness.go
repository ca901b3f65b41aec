package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"tradestore/internal/dev/embedded"
	"tradestore/test/stack/services"
)

// settings are the flags of a run.
type settings struct {
	rounds      int           // of each series
	hold        time.Duration // of each round
	connections int           // of the HTTP generator
	sustain     time.Duration // of each round of the sustained load
	records     int           // of one drain
	tableRows   int           // of a table that is full
	flags       string        // as given, for the report: see given
}

// check validates the settings.
func (s settings) check() error {
	if s.rounds < 1 || s.connections < 1 || s.hold <= 0 || s.sustain <= 0 {
		return errors.New("-rounds and -connections take 1 or more, -hold and -sustain more than 0")
	}
	if s.records < cellShare || s.tableRows < smallShare {
		return fmt.Errorf("-records takes %d or more, -table-rows %d or more: scaling has a part of them", cellShare,
			smallShare)
	}
	return nil
}

// harness is the shared state of the parts of a run. stop ends everything that it started.
type harness struct {
	settings
	loop     closedLoop // of the part that runs
	dir      string     // temporary
	began    time.Time
	progress io.Writer
	children atomic.Int64 // started so far
	attacks  int          // made so far: the trade ids of each begin with its number

	mu    sync.Mutex // guards stops: preparations run concurrently
	stops []func()   // in the order of the starts

	// Made by prepare, if a part needs it.
	program    string // path of the built tradestore
	benchmarks string // path of the built Go benchmarks of package postgres
	postgres   *embedded.Postgres
	kafka      *services.Kafka // nil: not available on this machine
	noKafka    error           // why
	limit      target          // the no-op HTTP server
}

// need is a shared resource of parts, made once.
type need struct {
	make func(ctx context.Context, l *harness) error
}

var (
	needProgram    = &need{makeProgram}
	needBenchmarks = &need{makeBenchmarks}
	needPostgres   = &need{makePostgres}
	needApache     = &need{makeApache}
	needLimit      = &need{makeLimit}
)

func newHarness(s settings, progress io.Writer) (*harness, error) {
	dir, err := os.MkdirTemp("", "tradestore-bench-")
	if err != nil {
		return nil, fmt.Errorf("cannot make a data folder: %w", err)
	}
	h := &harness{settings: s, dir: dir, began: time.Now(), progress: progress}
	h.onStop(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // the database runs as another user when we are root
		h.stop()
		return nil, fmt.Errorf("cannot use the data folder: %w", err)
	}
	return h, nil
}

func (h *harness) onStop(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stops = append(h.stops, f)
}

// stop ends everything in reverse order of the starts.
func (h *harness) stop() {
	for _, f := range slices.Backward(h.stops) {
		f()
	}
	h.stops = nil
}

// say reports progress with the elapsed time.
func (h *harness) say(format string, args ...any) {
	fmt.Fprintf(h.progress, "%5.0f s  %s\n", time.Since(h.began).Seconds(), fmt.Sprintf(format, args...))
}

// prepare makes all needs concurrently.
func (h *harness) prepare(ctx context.Context, chosen []part) error {
	h.say("starting the stores and building what is measured")
	var needs []*need
	for _, p := range chosen {
		for _, n := range p.needs {
			if !slices.Contains(needs, n) {
				needs = append(needs, n)
			}
		}
	}
	all, inner := errgroup.WithContext(ctx)
	for _, n := range needs {
		all.Go(func() error { return n.make(inner, h) })
	}
	return all.Wait()
}

func makeProgram(ctx context.Context, h *harness) error {
	h.program = filepath.Join(h.dir, "tradestore")
	return h.goTool(ctx, "build", "-o", h.program, ".")
}

func makeBenchmarks(ctx context.Context, h *harness) error {
	h.benchmarks = filepath.Join(h.dir, "postgres.test")
	return h.goTool(ctx, "test", "-c", "-o", h.benchmarks, "./postgres")
}

const maxWAL = "8GB"

// sharedBuffers is a quarter of the memory, or 256 MB if the memory is small or not known.
func sharedBuffers() string {
	_, gib := hardware()
	if gib < 4 {
		return "256MB"
	}
	return fmt.Sprintf("%dGB", gib/4)
}

// makePostgres starts the PostgreSQL of all parts except the embedded stack, which has its own. It has the size of a
// dedicated server: a quarter of the memory for buffers (PostgreSQL manual, 20.4), and rare checkpoints, so that full
// pages are rarely written to the log.
func makePostgres(ctx context.Context, h *harness) (err error) {
	h.postgres, err = embedded.Start(ctx, embedded.Config{
		Dir: filepath.Join(h.dir, "postgres"), SharedBuffers: sharedBuffers(), MaxWAL: maxWAL, Scratch: true,
		Log: zerolog.New(h.progress).Level(zerolog.WarnLevel),
	})
	if err == nil {
		h.onStop(h.postgres.Stop)
	}
	return err
}

// makeApache starts Apache Kafka as users run it, without the shortcuts of tests.
func makeApache(ctx context.Context, h *harness) error {
	k, err := services.StartKafka(ctx, services.KafkaConfig{Dir: filepath.Join(h.dir, "kafka"), FullSpeed: true})
	if errors.Is(err, services.ErrMissing) {
		h.noKafka = err
		return nil
	}
	if err != nil {
		return err
	}
	h.kafka = k
	h.onStop(k.Stop)
	return nil
}

// makeLimit starts the no-op HTTP server.
func makeLimit(ctx context.Context, h *harness) error {
	c, at, err := h.self(ctx, "the no-op server", nil, "noop")
	if err != nil {
		return err
	}
	h.limit = target{name: "fasthttp, no-op", api: at.API, watched: []watched{{name: "server", pid: c.PID()}}}
	return nil
}

// goTool runs the go command in the root of the module.
func (h *harness) goTool(ctx context.Context, args ...string) error {
	root, err := module(ctx)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot run go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// module returns the root of the module.
func module(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("cannot find the source, bench runs inside its module: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// database creates an empty database and returns its URL, which contains a password.
func (h *harness) database(ctx context.Context, name string) (string, error) {
	server := h.postgres.URL()
	conn, hangUp, err := connect(ctx, server)
	if err != nil {
		return "", err
	}
	defer hangUp()
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()); err != nil {
		return "", fmt.Errorf("cannot make database %s: %w", name, err)
	}
	u, err := url.Parse(server)
	if err != nil {
		return "", errors.New("cannot read the URL of the database") // the error would quote the password
	}
	u.Path = name
	return u.String(), nil
}

// connect opens a connection to a database. hangUp closes it, also after the end of ctx.
func connect(ctx context.Context, database string) (conn *pgx.Conn, hangUp func(), err error) {
	if conn, err = pgx.Connect(ctx, database); err != nil {
		return nil, nil, fmt.Errorf("cannot reach PostgreSQL: %w", err)
	}
	return conn, func() { _ = conn.Close(context.WithoutCancel(ctx)) }, nil
}
