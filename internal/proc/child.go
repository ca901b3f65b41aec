// Package proc starts child processes and ends them, and has what they need: free ports, lock files and a cache folder.
package proc

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Child is a process that Start started. Its methods may be called at the same time.
type Child struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed after the exit
	err    error         // of the exit; read after exited
}

// Start starts cmd in a process group of its own, so that Ctrl-C does not reach it. On Linux the kernel sends the child
// the signal onParentDeath when this process ends, however it ends. On other systems the child is left behind then.
func Start(cmd *exec.Cmd, onParentDeath syscall.Signal) (*Child, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	dieWithParent(cmd.SysProcAttr, onParentDeath)
	c := &Child{cmd: cmd, exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel watches the thread that starts the child: the thread has to stay as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			c.err = cmd.Wait()
			close(c.exited)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

// PID is the id of the process, also after its exit.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Done is closed after the exit.
func (c *Child) Done() <-chan struct{} { return c.exited }

// Running is true until the exit.
func (c *Child) Running() bool {
	select {
	case <-c.exited:
		return false
	default:
		return true
	}
}

// Err waits for the exit and returns what Wait of exec.Cmd returns: nil for exit code 0.
func (c *Child) Err() error {
	<-c.exited
	return c.err
}

// State waits for the exit and says how the process ended.
func (c *Child) State() *os.ProcessState {
	<-c.exited
	return c.cmd.ProcessState
}

// Signal sends a signal. It fails when the process has ended.
func (c *Child) Signal(s syscall.Signal) error { return c.cmd.Process.Signal(s) }

// Kill is kill -9. It returns when the process is gone. Calling it again is harmless.
func (c *Child) Kill() {
	_ = c.Signal(syscall.SIGKILL) // fails only when it is gone
	<-c.exited
}

// Stop sends SIGTERM, also to a frozen process, and returns when the process is gone. After the limit it kills the
// process and returns false. Calling it again is harmless.
func (c *Child) Stop(limit time.Duration) (inTime bool) {
	_ = c.Signal(syscall.SIGTERM) // fails only when it is gone
	_ = c.Signal(syscall.SIGCONT) // a frozen process sees the other signal only then
	select {
	case <-c.exited:
		return true
	case <-time.After(limit):
		c.Kill()
		return false
	}
}

// Run runs cmd to its end and returns what it wrote. When ctx ends, Run kills cmd with all that cmd started, and the
// error is the cause. onParentDeath is as in Start.
func Run(ctx context.Context, cmd *exec.Cmd, onParentDeath syscall.Signal) (output string, err error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	c, err := Start(cmd, onParentDeath)
	if err != nil {
		return "", err
	}
	defer context.AfterFunc(ctx, func() { _ = syscall.Kill(-c.PID(), syscall.SIGKILL) })()
	if err = c.Err(); err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return out.String(), err
}

// OpenLog opens a file that a child appends to. The caller closes it after Start: the child has its own copy.
func OpenLog(path string) (*os.File, error) {
	log, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open log: %w", err)
	}
	return log, nil
}

// Tail returns the last lines of a log, or why it cannot be read.
func Tail(path string, lines int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
