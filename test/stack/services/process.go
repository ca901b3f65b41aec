// Package services runs the real Apache Kafka, DynamoDB Local and Prometheus as child processes, on a machine that has
// Java 17, Maven and Go, and no container engine. What they consist of is fetched once, in pinned versions. It is for
// tests and for developers: one node, no authentication, 127.0.0.1.
package services

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"tradestore/internal/proc"
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
	build func() *exec.Cmd            // a new command for each start
	probe func(context.Context) error // nil when the service answers

	starting sync.Mutex // held while a run begins, so that there is one at a time
	current  atomic.Pointer[proc.Child]
}

// Port is where the service listens on 127.0.0.1. It stays the same over restarts.
func (p *Process) Port() int { return p.port }

// Log is the path of the file with what the service says.
func (p *Process) Log() string { return p.log }

// PID is the process of the service, 0 while there is none.
func (p *Process) PID() int {
	if c := p.current.Load(); c != nil && c.Running() {
		return c.PID()
	}
	return 0
}

// Done is closed when the service that runs now is gone, however it ended. A restart has a channel of its own.
func (p *Process) Done() <-chan struct{} { return p.current.Load().Done() }

// Stop ends the service as an operator would, frozen or not, and returns when it is gone. One that takes too long is
// killed. Calling it again is harmless.
func (p *Process) Stop() { p.current.Load().Stop(stopLimit) }

// Kill is kill -9: the service gets no chance to write anything down. It returns when the process is gone.
func (p *Process) Kill() { p.current.Load().Kill() }

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
	if err := p.current.Load().Signal(s); err != nil {
		return fmt.Errorf("cannot send %v to %s: %w", s, p.name, err)
	}
	return nil
}

// start starts the program and waits until the service answers.
func (p *Process) start(ctx context.Context) error {
	p.starting.Lock()
	defer p.starting.Unlock()
	if p.PID() != 0 {
		return fmt.Errorf("cannot start %s: it runs already", p.name)
	}
	if !proc.PortIsFree(p.port) { // else another program's answer would pass for ours
		return fmt.Errorf("cannot start %s: %w: %d", p.name, proc.ErrPortTaken, p.port)
	}
	since := size(p.log)
	c, err := launch(p.build(), p.log)
	if err != nil {
		return fmt.Errorf("cannot start %s: %w", p.name, err)
	}
	p.current.Store(c)
	poll := time.NewTicker(readyPoll)
	defer poll.Stop()
	for {
		select {
		case <-c.Done():
			return fmt.Errorf("cannot start %s: it ended by itself: %s: %s (all of it is in %s)",
				p.name, c.State(), lastWords(p.log, since), p.log)
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

// launch starts cmd with its output appended to the file named. SIGKILL ends it with this process: a gentler signal
// would not reach a frozen child.
func launch(cmd *exec.Cmd, log string) (*proc.Child, error) {
	out, err := proc.OpenLog(log)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the child has its own copy
	cmd.Stdout, cmd.Stderr = out, out
	return proc.Start(cmd, syscall.SIGKILL)
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
