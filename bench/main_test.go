package main

import (
	"bytes"
	"flag"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/test/stack"
)

// TestMain lets the test binary be its own children, as the program is.
func TestMain(m *testing.M) {
	if _, child := childModes[arg(1)]; child {
		if err := start(); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	stack.Main(m)
}

func TestHelpTeachesEveryPart(t *testing.T) {
	var said bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"-h"}, nil, &said))
	for _, p := range slices.Concat(parts, goalParts) {
		require.Contains(t, said.String(), p.about)
	}
	require.Contains(t, said.String(), "-rounds")
}

func TestMistakesNameTheFlag(t *testing.T) {
	f := func(want string, args ...string) {
		t.Helper()
		var said bytes.Buffer
		require.ErrorContains(t, run(t.Context(), args, nil, &said), want)
	}
	f("-only", "-only", "nonsense")
	f("-only", "-only", "apply,")
	f("-rounds", "-rounds", "0")
	f("-hold", "-hold", "-1s")
	f("-connections", "-connections", "0")
	f("-sustain", "-sustain", "0s")
	f("-records", "-records", "1")
	f("-table-rows", "-table-rows", "49")
	f("exclude each other", "-goals", "-only", "apply")
	f("nothing follows", "apply")
	f("see -h", "-hold", "long")
}

func TestTheReportNamesTheFlagsGiven(t *testing.T) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.String("only", "", "")
	flags.String("out", "", "")
	flags.Int("rounds", 3, "")
	flags.Duration("hold", time.Second, "")
	require.NoError(t, flags.Parse([]string{"-only", "drain", "-hold", "20s", "-out", "/tmp/bench"}))
	require.Equal(t, " -hold 20s", given(flags))
}

func TestChoose(t *testing.T) {
	f := func(list string, goals bool, want ...string) {
		t.Helper()
		chosen, err := choose(list, goals)
		require.NoError(t, err)
		var names []string
		for _, p := range chosen {
			names = append(names, p.name)
		}
		require.Equal(t, want, names)
	}
	f("", false, "accept", "produce", "apply", "stacks")
	f("", true, "sustained", "vegeta", "memory", "cost", "drain", "latency", "overload", "rows", "scaling")
	f("apply", false, "apply")
	f("rows,accept", false, "rows", "accept")
}
