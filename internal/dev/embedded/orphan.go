package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"tradestore/internal/proc"
)

// pidFile reads what the server writes down about itself; zero values when it isn't there.
func (h home) pidFile() (pid int, status string) {
	f, err := os.Open(filepath.Join(h.data(), "postmaster.pid"))
	if err != nil {
		return 0, ""
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		switch n {
		case 1:
			pid, _ = strconv.Atoi(strings.TrimSpace(lines.Text())) // 0 for a file that is being written
		case 8:
			status = strings.TrimSpace(lines.Text())
		}
	}
	return pid, status
}

// status is "ready" when the server with the pid given accepts connections.
func (h home) status(pid int) string {
	if owner, status := h.pidFile(); owner == pid {
		return status
	}
	return ""
}

// stopOrphan stops a server that a killed process left behind on this folder. The pid alone proves nothing: after a
// reboot it may be anybody's. A note of a dead one is removed, since PostgreSQL would not start if its pid lives on.
func (h home) stopOrphan(ctx context.Context) error {
	pid, _ := h.pidFile()
	if pid <= 0 {
		return nil
	}
	if !h.runs(pid) {
		if err := os.Remove(filepath.Join(h.data(), "postmaster.pid")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot remove a dead server's note: %w", err)
		}
		return nil
	}
	for _, step := range shutdownSteps {
		if err := syscall.Kill(pid, step.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("cannot stop the server that a killed process left behind, pid %d: %w", pid, err)
		}
		gone, err := h.awaitEnd(ctx, pid, step.limit)
		if gone || err != nil {
			return err
		}
	}
	return fmt.Errorf("the server that a killed process left behind, pid %d, does not stop", pid)
}

// awaitEnd waits until the process no longer serves this folder.
func (h home) awaitEnd(ctx context.Context, pid int, limit time.Duration) (gone bool, err error) {
	deadline := time.After(limit)
	poll := time.NewTicker(statusPoll)
	defer poll.Stop()
	for h.runs(pid) {
		select {
		case <-poll.C:
		case <-deadline:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	return true, nil
}

// runs says whether the process is a server of this folder.
func (h home) runs(pid int) bool {
	line := proc.CommandLine(pid)
	return strings.Contains(line, "postgres") && strings.Contains(line, " "+h.data()+" ")
}
