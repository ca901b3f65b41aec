package services

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"tradestore/internal/proc"
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
		return "", fmt.Errorf("no Java %d found: %w", leastJava, err)
	}
	out, err := exec.CommandContext(ctx, path, "-version").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("no Java %d found: %s does not run: %w", leastJava, path, err)
	}
	m := javaVersion.FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("no Java %d found: cannot tell the version of %s", leastJava, path)
	}
	if major, err := strconv.Atoi(string(m[1])); err != nil || major < leastJava {
		return "", fmt.Errorf("no Java %d found: %s is Java %s", leastJava, path, m[1])
	}
	return path, nil
}

// runTool runs a program to its end, and kills it with all that it started when ctx is done. Its error says what the
// program complained about.
func runTool(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := proc.Run(ctx, cmd, syscall.SIGKILL); err != nil {
		return fmt.Errorf("%w: %s", err, reason(out))
	}
	return nil
}

// thrown is a line that names an exception; frames of the stack follow it.
var thrown = regexp.MustCompile(`^(Exception in thread |Caused by: |[\w.$]+(Exception|Error)\b)`)

// reason returns the line that says best why a program gave up: the last exception, which is the root of the others,
// else the first line that calls itself an error, as Maven's and the compiler's do, else the last one of all.
func reason(out string) string {
	var exception, complaint, last string
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "at "):
			continue
		case thrown.MatchString(line):
			exception = line
		case complaint == "" && (strings.Contains(line, "ERROR") || strings.Contains(line, "error:")):
			complaint = line
		}
		last = line
	}
	return cmp.Or(exception, complaint, last, "it said nothing")
}
