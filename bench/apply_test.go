package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPattern(t *testing.T) {
	f := func(path, want string) {
		t.Helper()
		require.Equal(t, want, pattern(path))
	}
	f("RawCopy", "^BenchmarkRawCopy$")
	f("Apply/new/rows=4000", "^BenchmarkApply$/^new$/^rows=4000$")
}

func TestReported(t *testing.T) {
	f := func(want float64, out string) {
		t.Helper()
		got, err := reported([]byte(out), "rows/s")
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	f(290000, "goos: linux\nBenchmarkRawCopy-2   \t      10\t    290000 rows/s\nPASS\n")
	f(82.5, "BenchmarkApply/new/rows=4000 \t 1 \t 5 ns/op\t 82.5 rows/s\t 12 B/op\n")
	for _, out := range []string{"", "PASS\n", "BenchmarkRawCopy-2 10 5 ns/op\n", "Benchmark\n",
		"BenchmarkRawCopy-2 10 many rows/s\n"} {
		_, err := reported([]byte(out), "rows/s")
		require.Error(t, err, out)
	}
}
