package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"tradestore/internal/proc"
)

const (
	startLimit = 3 * time.Minute // of one process; the first start of all downloads PostgreSQL
	stopLimit  = 20 * time.Second
	readyPoll  = 50 * time.Millisecond
)

// child is a process that was started to be measured.
type child struct {
	*proc.Child
	name string
	out  io.Reader      // what it prints
	hold io.WriteCloser // while it is open, one of our own children runs
	log  string         // the file with its log
}

// start starts a program whose log goes to a file of its own. It is stopped, at the latest, with the harness.
func (l *harness) start(name, program string, env []string, args ...string) (*child, error) {
	c := &child{name: name, log: filepath.Join(l.dir, fmt.Sprintf("%d.log", l.children.Add(1)))}
	log, err := proc.OpenLog(c.log)
	if err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", name, err)
	}
	defer log.Close()         // the child has its own copy
	out, in, err := os.Pipe() // not StdoutPipe: the exit of the child would close it under a reader
	if err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", name, err)
	}
	defer in.Close() // as with the log
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr, c.out = environment(env...), in, log, out
	if c.hold, err = cmd.StdinPipe(); err == nil {
		c.Child, err = proc.Start(cmd, syscall.SIGTERM)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", name, err)
	}
	l.onStop(c.stop)
	return c, nil
}

// environment is that of this process without settings of ours: what is measured are the defaults.
func environment(more ...string) []string {
	kept := slices.DeleteFunc(os.Environ(), func(pair string) bool {
		ours := strings.HasPrefix(pair, "TRADESTORE_") || strings.HasPrefix(pair, "OTEL_")
		return ours && !strings.HasPrefix(pair, "TRADESTORE_CACHE_DIR=")
	})
	return append(kept, more...)
}

// stop ends the process as an operator would. Calling it again is harmless.
func (c *child) stop() {
	c.Stop(stopLimit)
	_ = c.hold.Close()
}

// failure is an error with the last thing that the process said.
func (c *child) failure(what string) error {
	return fmt.Errorf("%s %s: %s", c.name, what, proc.Tail(c.log, 1))
}

// self starts this program as a child that answers with where it is. The child ends with this process, however that
// ends.
func (l *harness) self(ctx context.Context, name string, env []string, args ...string) (*child, endpoint, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, endpoint{}, fmt.Errorf("cannot find this program: %w", err)
	}
	c, err := l.start(name, program, env, args...)
	if err != nil {
		return nil, endpoint{}, err
	}
	said := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(c.out).ReadString('\n') // nothing: it has ended
		said <- line
	}()
	select {
	case line := <-said:
		var at endpoint
		if err := json.Unmarshal([]byte(line), &at); err != nil {
			<-c.Done()
			return nil, endpoint{}, c.failure("does not start")
		}
		return c, at, nil
	case <-ctx.Done():
		return nil, endpoint{}, ctx.Err()
	case <-time.After(startLimit):
		return nil, endpoint{}, c.failure("does not start in time")
	}
}

// endpoint is what one of our own children prints when it is ready.
type endpoint struct {
	API     string   `json:"api,omitempty"`    // host:port
	Worker  string   `json:"worker,omitempty"` // host:port of its metrics
	Brokers []string `json:"brokers,omitempty"`
}

// announce prints where a child of ours is, and returns a context that ends with SIGTERM, Ctrl-C or the parent.
func announce(at endpoint) (context.Context, error) {
	if err := json.NewEncoder(os.Stdout).Encode(at); err != nil {
		return nil, fmt.Errorf("cannot tell where this process is: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the parent
		stop()
	}()
	return ctx, nil
}

// awaitReady waits until each address answers 200 under /readyz.
func (c *child) awaitReady(ctx context.Context, addresses ...string) error {
	go func() { _, _ = io.Copy(io.Discard, c.out) }() // a full pipe would stop it
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, errors.New("not ready in time"))
	defer cancel()
	poll := time.NewTicker(readyPoll)
	defer poll.Stop()
	for _, address := range addresses {
		for {
			if _, err := get(ctx, "http://"+address+"/readyz"); err == nil {
				break
			}
			select {
			case <-poll.C:
			case <-c.Done():
				return c.failure("ended before it was ready")
			case <-ctx.Done():
				return c.failure(context.Cause(ctx).Error())
			}
		}
	}
	return nil
}

// get returns the body of a 200.
func get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", url, answer.Status)
	}
	return io.ReadAll(answer.Body)
}

func freeAddress() (string, error) {
	port, err := proc.FreePort()
	return proc.Loopback(port), err
}
