package e2e

import (
	"testing"

	"tradestore/test/program"
)

// launch starts a program with a clean environment plus env, until the end of the test.
func launch(t *testing.T, name, path string, env []string, args ...string) *program.Process {
	t.Helper()
	return program.Start(t, name, path, append(program.Environment(), env...), args...)
}

// binary returns the program, with the race detector where the tests have it.
func binary(t *testing.T) string {
	t.Helper()
	return program.BuildRace(t)
}

// builder is program.Build or program.BuildRace.
type builder func(t testing.TB, tags ...string) string
