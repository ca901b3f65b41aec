// Package embedded runs PostgreSQL and a Kafka broker for one machine: for development, for tests and for a first look.
// PostgreSQL is the real server in a process of its own; the broker is an imitation that lives in this process.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"tradestore/internal/proc"
)

// The one role, a superuser, and the one database of an embedded server.
const (
	role     = "tradestore"
	database = "tradestore"
)

const (
	attempts     = 6                      // failed starts in a row that Start accepts before it gives up
	firstBackoff = 100 * time.Millisecond // between starts; doubles up to maxBackoff
	maxBackoff   = 5 * time.Second
	statusPoll   = 20 * time.Millisecond
)

// Config says where an embedded PostgreSQL keeps its files and how it runs.
type Config struct {
	Dir           string         // for data, password and log; made when missing. One server at a time
	CacheDir      string         // for the server's binaries, shared by all data folders; empty: DefaultCacheDir
	Port          int            // on 127.0.0.1; 0: the one of the last time if it is free, else any free one
	SharedBuffers string         // in PostgreSQL's notation; empty: 256MB
	MaxWAL        string         // max_wal_size, likewise; empty: 2GB
	Scratch       bool           // the folder is thrown away later: making the database does not wait for the disk
	Fast          bool           // no fsync at all: a power cut destroys the data. For tests of anything but durability
	Log           zerolog.Logger // what is being done: first start takes a while
}

// Postgres is a running server. It is restarted when it dies, until Stop.
type Postgres struct {
	cfg      Config
	home     home
	bin      binaries
	password string
	args     []string
	locks    []func()
	port     int
	stop     chan struct{} // closed by Stop
	stopOnce sync.Once
	done     chan struct{} // closed when the process is gone and won't come back

	mu    sync.Mutex // guards the fields below
	state error
	pid   int
}

// States of a server that does not accept connections.
var (
	errStarting = errors.New("PostgreSQL is starting")
	errStopping = errors.New("PostgreSQL is stopped")
)

// Start prepares the data folder where that is needed (the first time it downloads about 15 MB and takes some seconds),
// starts the server and returns when it accepts connections. A server that an earlier, killed process left behind on
// the same folder is stopped first. From then on this process ignores the variables of libpq. Errors: proc.ErrLocked
// when another process uses the folder, proc.ErrPortTaken.
func Start(ctx context.Context, cfg Config) (*Postgres, error) {
	proc.IgnoreLibpq()
	if cfg.CacheDir == "" {
		cfg.CacheDir = DefaultCacheDir()
	}
	if cfg.SharedBuffers == "" {
		cfg.SharedBuffers = "256MB"
	}
	if cfg.MaxWAL == "" {
		cfg.MaxWAL = "2GB"
	}
	p := &Postgres{cfg: cfg, state: errStarting, stop: make(chan struct{}), done: make(chan struct{})}
	if err := p.prepare(ctx); err != nil {
		p.release()
		return nil, fmt.Errorf("cannot start PostgreSQL in %s: %w", cfg.Dir, err)
	}
	started := make(chan error, 1)
	go p.supervise(started)
	select {
	case err := <-started:
		if err != nil {
			return nil, fmt.Errorf("cannot start PostgreSQL in %s: %w", cfg.Dir, err)
		}
		return p, nil
	case <-ctx.Done():
		p.Stop()
		return nil, fmt.Errorf("cannot start PostgreSQL in %s: %w", cfg.Dir, context.Cause(ctx))
	}
}

// URL connects as a superuser. It holds the password.
func (p *Postgres) URL() string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(role, p.password),
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(p.Port())), Path: database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Port is where the server listens on 127.0.0.1. It stays the same over restarts.
func (p *Postgres) Port() int { return p.port }

// PID is the process of the server, 0 while there is none.
func (p *Postgres) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid
}

// Dir is the folder of the database files. It differs from Config.Dir when the server's user can't go there.
func (p *Postgres) Dir() string { return p.home.dir }

// Version is the server's, such as 16.15.
func (p *Postgres) Version() string { return p.bin.version }

// State is nil while the server accepts connections. Otherwise it says why not.
func (p *Postgres) State() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// Done is closed after Stop, when the server is gone.
func (p *Postgres) Done() <-chan struct{} { return p.done }

// Stop ends all sessions, writes a checkpoint and returns when the server is gone. Calling it again is harmless.
func (p *Postgres) Stop() {
	p.stopOnce.Do(func() { close(p.stop) })
	<-p.done
}

// supervise starts the server again and again until Stop, and sends the result of the first start to started.
func (p *Postgres) supervise(started chan<- error) {
	defer close(p.done)
	defer p.release()
	backoff, failures, ever := firstBackoff, 0, false
	for {
		ready, err := p.run(func() {
			if !ever {
				ever = true
				started <- nil
			}
		})
		if ready {
			backoff, failures = firstBackoff, 0
		}
		if failures++; !ever && failures == attempts {
			started <- err
			return
		}
		if errors.Is(err, errStopping) {
			return
		}
		p.setState(fmt.Errorf("PostgreSQL restarts: %w", err))
		select {
		case <-p.stop:
			p.setState(errStopping)
			return
		case <-time.After(backoff):
		}
		p.cfg.Log.Warn().Err(err).Msg("PostgreSQL ended, starting it again")
		backoff = min(2*backoff, maxBackoff)
	}
}

// run is one life of the server, from start to exit. It says whether the server was ready in between.
func (p *Postgres) run(onReady func()) (ready bool, err error) {
	child, logStart, err := p.launch()
	if err != nil {
		return false, err
	}
	poll := time.NewTicker(statusPoll)
	defer poll.Stop()
	for {
		select {
		case <-child.Done():
			p.setPID(0)
			if err = child.Err(); err == nil {
				err = errors.New("exit status 0")
			}
			if !ready {
				err = fmt.Errorf("%w%s", err, p.lastWords(logStart))
			}
			return ready, err
		case <-poll.C:
			if p.home.status(child.PID()) == "ready" {
				poll.Stop()
				ready = true
				p.setState(nil)
				onReady()
			}
		case <-p.stop:
			p.setState(errStopping)
			shutdown(child)
			p.setPID(0)
			return ready, errStopping
		}
	}
}

// launch starts the process and returns where in the log its own lines begin.
func (p *Postgres) launch() (*proc.Child, int64, error) {
	log, err := openLog(p.home.log())
	if err != nil {
		return nil, 0, err
	}
	defer log.Close() // the child has its own copy
	info, err := log.Stat()
	if err != nil {
		return nil, 0, fmt.Errorf("cannot use log file: %w", err)
	}
	cmd := p.home.command(p.bin.tool("postgres"), append(p.args, "-p", strconv.Itoa(p.Port()))...)
	cmd.Stdout, cmd.Stderr = log, log
	child, err := proc.Start(cmd, fastShutdown)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot run %s: %w", cmd.Path, err)
	}
	p.setPID(child.PID())
	return child, info.Size(), nil
}

// shutdownSteps end a server: a fast shutdown writes a checkpoint, after an immediate one the next start recovers.
var shutdownSteps = []struct {
	signal syscall.Signal
	limit  time.Duration
}{{fastShutdown, 30 * time.Second}, {syscall.SIGQUIT, 10 * time.Second}}

// fastShutdown ends all sessions and writes a checkpoint. PostgreSQL's programs get it too when this process dies.
const fastShutdown = syscall.SIGINT

// shutdown stops the server: it sends the signal of each step, and kills the server after the last.
func shutdown(server *proc.Child) {
	for _, step := range shutdownSteps {
		_ = server.Signal(step.signal) // fails only when it is gone
		select {
		case <-server.Done():
			return
		case <-time.After(step.limit):
		}
	}
	server.Kill()
}

func (p *Postgres) setState(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = err
}

func (p *Postgres) setPID(pid int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pid = pid
}

const maxLog = 10 << 20

// openLog opens the server's log for appending. One that has grown large makes room: the one before stays as .old.
func openLog(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		if err := os.Rename(path, path+".old"); err != nil {
			return nil, fmt.Errorf("cannot rotate log: %w", err)
		}
	}
	return proc.OpenLog(path)
}

// lastWords returns the reason of a failed start: what the server wrote as fatal since the offset given.
func (p *Postgres) lastWords(since int64) string {
	text, err := os.ReadFile(p.home.log())
	if err != nil || since > int64(len(text)) {
		return ""
	}
	if m := fatalLine.FindSubmatch(text[since:]); m != nil {
		return fmt.Sprintf(": %s (see %s)", m[1], p.home.log())
	}
	return ""
}

// fatalLine matches the reason of a failed start. Before it can write a log, the server prints it like a command.
var fatalLine = regexp.MustCompile(`(?m)^(?:.* (?:FATAL|PANIC):  |postgres: )(.+)$`)
