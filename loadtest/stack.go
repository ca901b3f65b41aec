package loadtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
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

	self   string
	dir    string
	cmd    *exec.Cmd
	exited chan struct{} // closed after the exit
}

// StartStack starts the program self as the embedded stack and returns when it takes trades. Settings of the stack's
// roles may come from the environment, like TRADESTORE_LANES; those that say where things are do not.
func StartStack(ctx context.Context, self string) (*Stack, error) {
	dir, err := os.MkdirTemp("", "tradestore-loadtest-")
	if err != nil {
		return nil, fmt.Errorf("cannot make a data folder for the embedded stack: %w", err)
	}
	s := &Stack{self: self, dir: dir, exited: make(chan struct{})}
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

func (s *Stack) start() error {
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		return fmt.Errorf("cannot make the log of the embedded stack: %w", err)
	}
	defer log.Close() // the process has its own copy
	s.cmd = exec.Command(s.self, "dev", "--data-dir", s.data(), "--listen", "127.0.0.1:0", "--worker-listen", "127.0.0.1:0", "--log-format", "json")
	s.cmd.Stderr = log
	s.cmd.Env = stackEnvironment(os.Environ())
	// Ctrl-C is for us: what was accepted is to be decided before the stack ends.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	endWithUs(s.cmd.SysProcAttr)
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the kernel watches the thread that starts the process
		defer runtime.UnlockOSThread()
		err := s.cmd.Start()
		started <- err
		if err == nil {
			_ = s.cmd.Wait() // the exit is read from ProcessState
		}
		close(s.exited)
	}()
	if err := <-started; err != nil {
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
		if s.learn() && ready(ctx, s.API) == nil && ready(ctx, s.Worker) == nil {
			return nil
		}
		select {
		case <-s.exited:
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

// ready asks a role whether it takes work; the error says why not.
func ready(ctx context.Context, base string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(base, "/")+"/readyz", http.NoBody)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<10)) // what was read of it helps
		return fmt.Errorf("%s answers %s: %s", req.URL, answer.Status, bytes.TrimSpace(why))
	}
	return nil
}

// Ended returns the reason when the stack has ended by itself, else an empty text.
func (s *Stack) Ended() string {
	select {
	case <-s.exited:
		return fmt.Sprintf("the embedded stack ended (%s): %s", s.cmd.ProcessState, s.tail())
	default:
		return ""
	}
}

// Close drains the stack, or kills it when it takes too long, and removes its data.
func (s *Stack) Close() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // fails when it has ended
	var err error
	select {
	case <-s.exited:
	case <-time.After(stackDrain):
		_ = s.cmd.Process.Kill()
		<-s.exited
		err = fmt.Errorf("the embedded stack did not drain within %v", stackDrain)
	}
	remove := exec.Command(s.self, "dev", "--data-dir", s.data(), "--remove")
	remove.Env = stackEnvironment(os.Environ())
	if said, failed := remove.CombinedOutput(); failed != nil {
		err = errors.Join(err, fmt.Errorf("cannot remove the data of the embedded stack in %s: %w: %s", s.data(), failed, bytes.TrimSpace(said)))
	}
	if failed := os.RemoveAll(s.dir); failed != nil {
		err = errors.Join(err, fmt.Errorf("cannot remove the folder of the embedded stack: %w", failed))
	}
	return err
}

// tail returns the last lines that the stack wrote.
func (s *Stack) tail() string {
	text, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}
