package e2e

import (
	"os"
	"testing"

	"tradestore/teststack"
)

func TestMain(m *testing.M) { teststack.Main(m) }

// long asks for the counts of a long run, such as 100 kills per failpoint, instead of those that fit into CI.
var long = os.Getenv("TRADESTORE_E2E_LONG") != ""

// scale returns short or, in a long run, the long count.
func scale(short, full int) int {
	if long {
		return full
	}
	return short
}
