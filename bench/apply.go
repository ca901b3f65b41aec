package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// perBatch selects full batches.
const perBatch = "rows=4000"

// applying compares the apply transaction with plain writes of the same rows to PostgreSQL: the Go benchmarks of
// package postgres, in turn.
func applying(ctx context.Context, h *harness, r *results) error {
	bench := func(name, path string) *series {
		return &series{name: name, run: func(ctx context.Context, hold time.Duration) (sample, error) {
			return h.benchmark(ctx, path, hold/5)
		}}
	}
	ours := bench("apply: position, trades, journal", "Apply/new/"+perBatch)
	two := bench("apply on two connections, the default", "ApplyTwo/new/"+perBatch)
	two.aside = true // the limits use one
	unnest := bench("upsert of unnested arrays", "RawUnnest")
	stages := []stage{
		{title: "PostgreSQL: apply, against COPY alone", unit: "rows", limit: bench("COPY into one table", "RawCopy"),
			ours: []*series{ours, two}},
		{title: "PostgreSQL: apply, against one upsert alone", unit: "rows", limit: unnest, ours: []*series{ours}},
	}
	if err := h.measure(ctx, false, stages...); err != nil {
		return err
	}
	r.add(stages...)
	return nil
}

// benchmark runs one Go benchmark on the shared server and returns its rows per second.
func (h *harness) benchmark(ctx context.Context, path string, hold time.Duration) (sample, error) {
	cmd := exec.CommandContext(ctx, h.benchmarks, "-test.run", "^$", "-test.bench", pattern(path), "-test.benchtime",
		hold.String())
	cmd.Env = environment("TRADESTORE_TEST_DATABASE_URL="+h.postgres.URL(), "CI=true") // no skipping
	began := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return sample{}, fmt.Errorf("cannot run benchmark %s: %w\n%s", path, err, out)
	}
	perSecond, err := reported(out, "rows/s")
	if err != nil {
		return sample{}, fmt.Errorf("cannot read the result of benchmark %s: %w", path, err)
	}
	return sample{rate: perSecond, lasted: time.Since(began)}, nil
}

// pattern returns the -bench pattern of exactly one benchmark, given as Name/case/case.
func pattern(path string) string {
	parts := strings.Split("Benchmark"+path, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}

// reported returns the value with the unit given of the only benchmark in the output of go test.
func reported(out []byte, unit string) (float64, error) {
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		for i := 3; i < len(fields); i += 2 {
			if fields[i] == unit {
				return strconv.ParseFloat(fields[i-1], 64)
			}
		}
	}
	return 0, fmt.Errorf("there is no %s in it:\n%s", unit, out)
}
