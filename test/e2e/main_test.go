package e2e

import (
	"flag"
	"os"
	"testing"

	"tradestore/test/stack"
)

// sideBySide is how many tests run at once unless -parallel says otherwise. They wait more than they work; each stack
// takes about 50 of the 200 connections of the shared database.
const sideBySide = "3"

func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", sideBySide) // a number fits
	}
	stack.Main(m)
}

// long asks for the counts of a long run, such as 100 kills per failpoint, instead of those that fit into CI.
var long = os.Getenv("TRADESTORE_E2E_LONG") != ""

// onlyLong skips a test that has no short form.
func onlyLong(t *testing.T) {
	t.Helper()
	if !long {
		t.Skip("a long test: set TRADESTORE_E2E_LONG=1")
	}
}

// scale returns short or, in a long run, the long count.
func scale(short, full int) int {
	if long {
		return full
	}
	return short
}
