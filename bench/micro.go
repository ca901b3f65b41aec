package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

// benchmarks names the Go benchmarks that the report shows, package by package.
var benchmarks = []struct{ pkg, pattern, title string }{
	{"./trade", "^Benchmark(Decode|Validate|AppendJSON|Resolve)$", "Domain: decode, validate, encode, resolve"},
	{"./postgres", "^Benchmark(Apply|ApplyTwo|RawUnnest|RawCopy)$", "Store: the apply transaction and the limits it is measured against"},
}

var benchLine = regexp.MustCompile(`^(Benchmark\S+?)(-\d+)?\s+\d+\s+(.*)$`)

// micro runs the Go benchmarks, the given number of times each, and adds their medians to the report.
func micro(ctx context.Context, r *report, rounds int) error {
	for _, b := range benchmarks {
		args := []string{"test", "-run", "^$", "-bench", b.pattern, "-benchmem", "-count", strconv.Itoa(rounds), b.pkg}
		fmt.Println("go", strings.Join(args, " "))
		cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // fixed arguments
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("cannot run the benchmarks of %s: %w\n%s", b.pkg, err, out)
		}
		fmt.Fprintf(r, "\n## %s\n\n`go %s`\n\n", b.title, strings.Join(args, " "))
		table(r, out)
	}
	return nil
}

// table adds one row per benchmark with the median of each unit that it reported.
func table(r *report, out []byte) {
	var order []string
	values := map[string]map[string][]float64{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		m := benchLine.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		if values[m[1]] == nil {
			order = append(order, m[1])
			values[m[1]] = map[string][]float64{}
		}
		fields := strings.Fields(m[3])
		for i := 0; i+1 < len(fields); i += 2 {
			if v, err := strconv.ParseFloat(fields[i], 64); err == nil {
				values[m[1]][fields[i+1]] = append(values[m[1]][fields[i+1]], v)
			}
		}
	}
	fmt.Fprintf(r, "| benchmark | ns per operation | rows/s (low to high) | bytes | allocations |\n|---|---:|---:|---:|---:|\n")
	for _, name := range order {
		v := values[name]
		rows := ""
		if len(v["rows/s"]) > 0 {
			rows = figureOf(v["rows/s"]).perSecond()
		}
		fmt.Fprintf(r, "| %s | %s | %s | %s | %s |\n", strings.TrimPrefix(name, "Benchmark"), median(v["ns/op"]), rows,
			median(v["B/op"]), median(v["allocs/op"]))
	}
}

func median(v []float64) string {
	if len(v) == 0 {
		return ""
	}
	return thousands(figureOf(v).median)
}
