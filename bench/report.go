package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report is the text of RESULTS.md in the making.
type report struct{ bytes.Buffer }

func newReport() *report {
	r := &report{}
	fmt.Fprintf(r, "# Results\n\nWritten by `make results`. Compare figures within one run only: machines differ, and so do hours.\n\n")
	fmt.Fprintf(r, "| | |\n|---|---|\n")
	fmt.Fprintf(r, "| date | %s |\n", time.Now().UTC().Format(time.DateOnly))
	fmt.Fprintf(r, "| commit | %s |\n", output("git", "describe", "--always", "--dirty"))
	fmt.Fprintf(r, "| machine | %s, %d cores for everything, generator included |\n", processor(), runtime.NumCPU())
	fmt.Fprintf(r, "| Go | %s |\n", runtime.Version())
	return r
}

func (r *report) write(file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return fmt.Errorf("cannot make the folder of the results: %w", err)
	}
	if err := os.WriteFile(file, r.Bytes(), 0o600); err != nil {
		return fmt.Errorf("cannot write the results: %w", err)
	}
	fmt.Println("wrote", file)
	return nil
}

// figure is the median of several rounds and how far they lay apart.
type figure struct{ median, low, high float64 }

func figureOf(rounds []float64) figure {
	s := slices.Sorted(slices.Values(rounds))
	return figure{s[len(s)/2], s[0], s[len(s)-1]}
}

// perSecond shows a rate and its spread as 12,345 (11,900 to 12,700).
func (f figure) perSecond() string {
	return fmt.Sprintf("%s (%s to %s)", thousands(f.median), thousands(f.low), thousands(f.high))
}

func thousands(f float64) string {
	s := fmt.Sprintf("%.0f", f)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func output(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output() //nolint:gosec,noctx // fixed commands, for a line of the report
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func processor() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOOS + "/" + runtime.GOARCH
	}
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOOS + "/" + runtime.GOARCH
}
