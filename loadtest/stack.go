package loadtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"tradestore/internal/apiclient"
	"tradestore/internal/proc"
)

const (
	stackReady = 3 * time.Minute // the first start of a machine may download PostgreSQL
	stackDrain = time.Minute
	readyPoll  = 100 * time.Millisecond
)

// Stack is `tradestore dev` as a child process on a data folder of its own, with ports that were free.
type Stack struct {
	API      string // base URLs
	Worker   string
	Kafka    string // host:port
	Database string // URL, with the password

	self  string
	dir   string
	child *proc.Child
}

// StartStack starts the program self as the embedded stack and returns when it takes trades. Settings of the stack's
// roles may come from the environment, like TRADESTORE_LANES; those that say where things are do not.
func StartStack(ctx context.Context, self string) (*Stack, error) {
	proc.IgnoreLibpq() // the load test reads the database of the stack
	dir, err := os.MkdirTemp("", "tradestore-loadtest-")
	if err != nil {
		return nil, fmt.Errorf("cannot make a data folder for the embedded stack: %w", err)
	}
	s := &Stack{self: self, dir: dir}
	if err := s.start(); err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	if err := s.await(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Stack) data() string { return filepath.Join(s.dir, "data") }
func (s *Stack) log() string  { return filepath.Join(s.dir, "log") }

func (s *Stack) start() error {
	log, err := proc.OpenLog(s.log())
	if err != nil {
		return fmt.Errorf("cannot make the log of the embedded stack: %w", err)
	}
	defer log.Close() // the process has its own copy
	cmd := exec.Command(s.self, "dev", "--data-dir", s.data(), "--listen", "127.0.0.1:0", "--worker-listen", "127.0.0.1:0",
		"--log-format", "json")
	cmd.Stderr = log
	cmd.Env = stackEnvironment(os.Environ())
	// Ctrl-C must not reach the stack: it has to decide what was accepted before it ends. SIGTERM lets it drain.
	if s.child, err = proc.Start(cmd, syscall.SIGTERM); err != nil {
		return fmt.Errorf("cannot start the embedded stack: %w", err)
	}
	return nil
}

// stackEnvironment leaves out what says where things are, and what is meant for this command.
func stackEnvironment(all []string) []string {
	var kept []string
	for _, entry := range all {
		name, _, _ := strings.Cut(entry, "=")
		switch strings.TrimPrefix(name, "TRADESTORE_") {
		case "LISTEN", "WORKER_LISTEN", "DATA_DIR", "KAFKA_PORT", "POSTGRES_PORT", "DATABASE_URL", "LOG_FORMAT":
		default:
			kept = append(kept, entry)
		}
	}
	return kept
}

// await reads where everything is, and waits until both roles are ready.
func (s *Stack) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stackReady)
	defer cancel()
	for {
		if s.learn() && apiclient.Ready(ctx, s.API) == nil && apiclient.Ready(ctx, s.Worker) == nil {
			return nil
		}
		select {
		case <-s.child.Done():
			return fmt.Errorf("the embedded stack ended before it was ready: %s", s.tail())
		case <-ctx.Done():
			return fmt.Errorf("the embedded stack is not ready: %w: %s", context.Cause(ctx), s.tail())
		case <-time.After(readyPoll):
		}
	}
}

func (s *Stack) learn() bool {
	text, err := os.ReadFile(filepath.Join(s.data(), "dev.json"))
	if err != nil {
		return false
	}
	var note struct{ API, Worker, Kafka, Database string }
	if json.Unmarshal(text, &note) != nil {
		return false
	}
	s.API, s.Worker, s.Kafka, s.Database = note.API, note.Worker, note.Kafka, note.Database
	return true
}

// Ended returns the reason when the stack has ended by itself, else an empty text.
func (s *Stack) Ended() string {
	if s.child.Running() {
		return ""
	}
	return fmt.Sprintf("the embedded stack ended (%s): %s", s.child.State(), s.tail())
}

// Close drains the stack, or kills it when it takes too long, and removes its data.
func (s *Stack) Close() error {
	var err error
	if !s.child.Stop(stackDrain) {
		err = fmt.Errorf("the embedded stack did not drain within %v", stackDrain)
	}
	remove := exec.Command(s.self, "dev", "--data-dir", s.data(), "--remove")
	remove.Env = stackEnvironment(os.Environ())
	if said, failed := remove.CombinedOutput(); failed != nil {
		err = errors.Join(err, fmt.Errorf("cannot remove the data of the embedded stack in %s: %w: %s",
			s.data(), failed, bytes.TrimSpace(said)))
	}
	if failed := os.RemoveAll(s.dir); failed != nil {
		err = errors.Join(err, fmt.Errorf("cannot remove the folder of the embedded stack: %w", failed))
	}
	return err
}

// tail returns the last lines that the stack wrote.
func (s *Stack) tail() string { return proc.Tail(s.log(), 5) }
