// Package services runs the real Apache Kafka, DynamoDB Local and Prometheus as child processes, on a machine that has
// Java 17, Maven and Go, and no container engine. What they consist of is fetched once, in pinned versions. It is for
// tests and for developers: one node, no authentication, 127.0.0.1.
package services

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	stopLimit  = 20 * time.Second       // from SIGTERM to SIGKILL
	readyPoll  = 100 * time.Millisecond // between two looks at a service that starts
	readyLimit = 2 * time.Second        // of one look
)

// Process is a service as a child process: it can be ended, frozen and started again, on the same folder and port. All
// methods may be called at the same time. The child ends with this process: on Linux also when that one is killed;
// elsewhere it is left behind then, and holds its port.
type Process struct {
	name  string
	port  int
	log   string                      // the path of what it says
	build func() *exec.Cmd            // a new command for each life
	probe func(context.Context) error // nil when the service answers

	starting sync.Mutex // held while a life begins, so that there is one at a time
	life     atomic.Pointer[life]
}

// life is one run of the program, from start to exit.
type life struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed at the end
	err    error         // how it ended; read after exited
}

// Port is where the service listens on 127.0.0.1. It stays the same over restarts.
func (p *Process) Port() int { return p.port }

// Log is the path of the file with what the service says.
func (p *Process) Log() string { return p.log }

// PID is the process of the service, 0 while there is none.
func (p *Process) PID() int {
	l := p.life.Load()
	if l == nil || l.over() {
		return 0
	}
	return l.cmd.Process.Pid
}

// Done is closed when the service that runs now is gone, however it ended. A restart has a channel of its own.
func (p *Process) Done() <-chan struct{} { return p.life.Load().exited }

// Stop ends the service as an operator would, frozen or not, and returns when it is gone. One that takes too long is
// killed. Calling it again is harmless.
func (p *Process) Stop() {
	l := p.life.Load()
	l.signal(syscall.SIGTERM)
	l.signal(syscall.SIGCONT) // a frozen process sees the other signal only then
	select {
	case <-l.exited:
	case <-time.After(stopLimit):
		p.Kill()
	}
}

// Kill is kill -9: the service gets no chance to write anything down. It returns when the process is gone.
func (p *Process) Kill() {
	l := p.life.Load()
	l.signal(syscall.SIGKILL)
	<-l.exited
}

// Pause freezes the service: its connections stay open and nothing answers.
func (p *Process) Pause() error { return p.send(syscall.SIGSTOP) }

// Resume lets a frozen service go on.
func (p *Process) Resume() error { return p.send(syscall.SIGCONT) }

// Restart stops the service if it runs and starts it again, on the same folder and port. It returns when it answers.
// Errors: the same as those of the first start.
func (p *Process) Restart(ctx context.Context) error {
	p.Stop()
	return p.start(ctx)
}

func (p *Process) send(s syscall.Signal) error {
	if err := p.life.Load().cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("cannot send %v to %s: %w", s, p.name, err)
	}
	return nil
}

// start begins a life and waits until the service answers.
func (p *Process) start(ctx context.Context) error {
	p.starting.Lock()
	defer p.starting.Unlock()
	if l := p.life.Load(); l != nil && !l.over() {
		return fmt.Errorf("cannot start %s: it runs already", p.name)
	}
	if !free(p.port) { // else a stranger's answer would pass for ours
		return fmt.Errorf("cannot start %s: %w: %d", p.name, ErrPortTaken, p.port)
	}
	since := size(p.log)
	l, err := launch(p.build(), p.log)
	if err != nil {
		return fmt.Errorf("cannot start %s: %w", p.name, err)
	}
	p.life.Store(l)
	poll := time.NewTicker(readyPoll)
	defer poll.Stop()
	for {
		select {
		case <-l.exited:
			return fmt.Errorf("cannot start %s: it ended by itself: %w: %s (all of it is in %s)", p.name, l.outcome(), lastWords(p.log, since), p.log)
		case <-ctx.Done():
			p.Kill()
			return fmt.Errorf("cannot start %s: %w (see %s)", p.name, context.Cause(ctx), p.log)
		case <-poll.C:
			if p.answers(ctx) {
				return nil
			}
		}
	}
}

func (p *Process) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	return p.probe(ctx) == nil
}

// launch starts cmd in a process group of its own, out of reach of Ctrl-C, with its output appended to the file named.
func launch(cmd *exec.Cmd, log string) (*life, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open log: %w", err)
	}
	defer out.Close() // the child has its own copy
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr)
	l := &life{cmd: cmd, exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel kills the child when the thread that started it ends, so the thread stays as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			l.err = cmd.Wait()
			close(l.exited)
		}
	}()
	return l, <-started
}

// signal does nothing to a life that is over.
func (l *life) signal(s syscall.Signal) { _ = l.cmd.Process.Signal(s) }

func (l *life) over() bool {
	select {
	case <-l.exited:
		return true
	default:
		return false
	}
}

// outcome is never nil: a service that ends while it starts has failed, whatever its exit status.
func (l *life) outcome() error {
	if l.err == nil {
		return errors.New("exit status 0")
	}
	return l.err
}

func size(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// lastWords returns why the service gave up, by its log from the offset on.
func lastWords(path string, since int64) string {
	text, err := os.ReadFile(path)
	if err != nil || since > int64(len(text)) {
		return "it left no log"
	}
	return reason(string(text[since:]))
}
