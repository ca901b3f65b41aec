package services

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

const leastJava = 17 // what the pinned versions are compiled for

var javaVersion = regexp.MustCompile(`version "(\d+)`)

// findJava returns the java program: the one of JAVA_HOME if set, else the one on the PATH.
func findJava(ctx context.Context) (string, error) {
	name := "java"
	if home := os.Getenv("JAVA_HOME"); home != "" {
		name = filepath.Join(home, "bin", "java")
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("Java %d is missing: %w", leastJava, err) //nolint:revive // a name
	}
	out, err := exec.CommandContext(ctx, path, "-version").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("Java %d is missing: %s does not run: %w", leastJava, path, err) //nolint:revive // a name
	}
	m := javaVersion.FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("Java %d is missing: cannot tell the version of %s", leastJava, path) //nolint:revive // a name
	}
	if major, err := strconv.Atoi(string(m[1])); err != nil || major < leastJava {
		return "", fmt.Errorf("Java %d is missing: %s is Java %s", leastJava, path, m[1]) //nolint:revive // a name
	}
	return path, nil
}

// runTool runs a program to its end, and kills it with all that it started when ctx is done. Its error says what the
// program complained about.
func runTool(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	dieWithParent(cmd.SysProcAttr)
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if said := complaint(string(out)); said != "" {
		err = errors.Join(err, errors.New(said))
	}
	return err
}

// complaint is the first line that calls itself an error, as Maven's and the compiler's do, else the last one.
func complaint(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for _, line := range lines {
		if strings.Contains(line, "ERROR") || strings.Contains(line, "error:") {
			return strings.TrimSpace(line)
		}
	}
	return strings.TrimSpace(lines[len(lines)-1])
}
