package e2e

import (
	"flag"
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

// scale returns short or, in a long run, the long count.
func scale(short, full int) int {
	if stack.Long {
		return full
	}
	return short
}
