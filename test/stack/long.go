package stack

import (
	"os"
	"testing"
)

const longVar = "TRADESTORE_E2E_LONG"

// Long says that tests run at the counts of a long run, such as 100 kills per failpoint, instead of those that fit into
// CI.
var Long = os.Getenv(longVar) != ""

// OnlyLong skips a test that has no short form.
func OnlyLong(t testing.TB) {
	t.Helper()
	if !Long {
		t.Skip("a long test: set " + longVar + "=1")
	}
}
