package e2e

import (
	"testing"

	"tradestore/test/program"
)

// binary returns the program as it is built for a developer.
func binary(t *testing.T) string {
	t.Helper()
	return program.Build(t)
}

// breakingBinary returns the program with failpoints.
func breakingBinary(t *testing.T) string {
	t.Helper()
	return program.Build(t, "failpoint")
}
