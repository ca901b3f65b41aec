// Package cleanenv clears the environment of a test binary that imports it, before any other package reads it. Settings
// that a user has exported for a server of theirs must not change a test, nor lead a test to their database. Every
// package with tests imports it, through test/stack or by itself.
package cleanenv

import (
	"os"
	"slices"
	"strings"
)

// settings are the prefixes of variables that the product or its libraries read.
var settings = []string{"TRADESTORE_", "PG", "AWS_", "OTEL_"}

// forTests are the prefixes of those that are meant for tests.
var forTests = []string{
	"TRADESTORE_TEST_", "TRADESTORE_CACHE_DIR=", "TRADESTORE_E2E_", "TRADESTORE_EMBEDDED_HELPER=",
	"TRADESTORE_JOURNAL_ROWS=",
}

func init() {
	for _, pair := range os.Environ() {
		begins := func(prefix string) bool { return strings.HasPrefix(pair, prefix) }
		if slices.ContainsFunc(settings, begins) && !slices.ContainsFunc(forTests, begins) {
			name, _, _ := strings.Cut(pair, "=")
			_ = os.Unsetenv(name) // fails only for an invalid name
		}
	}
}
