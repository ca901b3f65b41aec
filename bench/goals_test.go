package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/test/stack"
)

// Rounds are the shortest that there are: what is found is no figure, but all of it is.
func TestGoalsAndScalingAreMeasured(t *testing.T) {
	h := testHarness(t)
	h.sustain, h.records, h.tableRows = 200*time.Millisecond, 10_000, 10_000
	h.kafka, h.postgres = stack.ApacheKafka(t), stack.OwnPostgres(t)
	for _, n := range []*need{needBenchmarks, needLimit, needProgram} {
		require.NoError(t, n.make(t.Context(), h))
	}
	found := &results{}
	for _, measure := range []func(context.Context, *harness, *results) error{sustained, memory, observing, draining,
		rows} {
		require.NoError(t, measure(t.Context(), h, found))
	}
	h.loop.vegeta = true
	require.NoError(t, sustained(t.Context(), h, found))
	h.loop.vegeta = false
	require.Len(t, found.goals, 3+2+1+6+2+3)
	for _, g := range found.goals {
		require.NotContains(t, g.got, "NaN", g.figure)
		require.NotContains(t, g.got, "Inf", g.figure)
	}

	drains, err := h.drainAxes(t.Context())
	require.NoError(t, err)
	accepts, err := h.acceptAxes(t.Context())
	require.NoError(t, err)
	axes := slices.Concat(drains, accepts)
	for i := range axes {
		axes[i].cells = axes[i].cells[len(axes[i].cells)-1:] // one of each
	}
	require.NoError(t, h.compare(t.Context(), axes, found))
	require.Len(t, found.scaling, len(axes))
	for _, w := range found.scaling {
		require.Positive(t, w.rate.median, "%s %s", w.stage, w.name)
		require.Positive(t, w.ratio.median, "%s %s", w.stage, w.name)
	}
}

func TestGoalsAreMetByTheMedian(t *testing.T) {
	limit := &series{name: "the limit", rounds: []sample{{rate: 100}, {rate: 100}, {rate: 100}}}
	f := func(met bool, rates ...float64) {
		t.Helper()
		ours := &series{}
		for _, r := range rates {
			ours.rounds = append(ours.rounds, sample{rate: r})
		}
		g := atLeast(0.5, "ours", ours, limit, rate, "apply")
		require.Equal(t, met, g.met, g.got)
		require.Equal(t, "at least 0.50 x the limit", g.want)
		require.Equal(t, "apply", g.part)
	}
	f(true, 50, 50, 50)
	f(true, 10, 50, 90)
	f(false, 90, 49, 10)
}

func TestMemoryIsFlatAndSmallForHalfAnHour(t *testing.T) {
	f := func(want bool, hold time.Duration, mib ...float64) {
		t.Helper()
		r := &results{}
		r.addMemory("server", mib, hold, sample{stored: 1000})
		require.Equal(t, want, r.goals[0].met, r.goals[0].got)
	}
	f(true, 30*time.Minute, 40, 50, 60, 55, 50, 55)
	f(false, 29*time.Minute, 40, 50, 60, 55, 50, 55)
	f(false, 30*time.Minute, 40, 50, 60, 55, 65, 70)
	f(false, 30*time.Minute, 150, 50, 60, 55, 50, 55)
	f(false, 30*time.Minute)
}

func TestLagIsFlat(t *testing.T) {
	f := func(want bool, seen ...float64) {
		t.Helper()
		require.Equal(t, want, flat(thirds(seen)))
	}
	f(true, 0, 0, 0)
	f(true, 900, 900, 10, 30, 20, 30)
	f(true, 0, 0, 50, 10, 90, 10)
	f(false, 0, 10, 20, 30, 40, 50)
	f(false, 0, 0)
}

// The clock of a drain runs from the first move that is seen, which does not count.
func TestMoves(t *testing.T) {
	f := func(count float64, seen ...float64) {
		t.Helper()
		position := func() (float64, error) {
			now := seen[0]
			seen = seen[1:]
			return now, nil
		}
		got, err := measureProgress(t.Context(), position, 100, 50)
		require.NoError(t, err)
		require.Empty(t, seen)
		require.Equal(t, count, got.count)
		require.Positive(t, got.rate)
	}
	f(30, 100, 100, 120, 130, 150)
	f(50, 100, 150)
	f(50, 160)
	_, err := measureProgress(t.Context(), func() (float64, error) { return 0, errors.New("down") }, 100, 50)
	require.ErrorContains(t, err, "down")
	ended, end := context.WithCancelCause(t.Context())
	end(errors.New("that is enough"))
	_, err = measureProgress(ended, func() (float64, error) { return 110, nil }, 100, 50)
	require.ErrorContains(t, err, "that is enough: 10 of 50 records applied")
}

func TestFlowsSendWhatTheySay(t *testing.T) {
	f := func(trades tradeSource, rows, ids int) {
		t.Helper()
		keys, distinct := map[string]map[int32]bool{}, 0
		for i := range 1000 {
			id, version := trades(i)
			if keys[id] == nil {
				keys[id] = map[int32]bool{}
			}
			if !keys[id][version] {
				distinct++
			}
			keys[id][version] = true
		}
		require.Equal(t, rows, distinct)
		require.Len(t, keys, ids)
	}
	f(scatteredIDs(2), 1000, 1000)
	f(growingIDs, 1000, 1000)
	f(hotIDs, 10, 10)
	f(tenVersions, 1000, 100)
}

// goalsFound is a run of goals alone.
func goalsFound(commit string, figures ...string) *results {
	r := &results{flags: " -hold 20s", facts: []fact{{"date", "2026-11-23"}, {"commit", commit}}}
	for _, f := range figures {
		r.addGoal(goal{figure: f, want: "at least 1", got: "1", met: f != "missed", part: "drain"})
	}
	return r
}

func TestGoalsInTheReport(t *testing.T) {
	text := string(goalsFound("abc", "first", "missed").markdown())
	require.Contains(t, text, "\n| first | at least 1 | 1 | yes | `go run ./bench -only drain -hold 20s` "+
		"| 2026-11-23, abc |\n| missed | at least 1 | 1 | **no** |")
	require.NotContains(t, text, "Stages and their limits")
	require.NotContains(t, text, "Scaling")
}

func TestWriteMergesSections(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "RESULTS.md")
	read := func() string {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		return string(text)
	}
	require.NoError(t, found().write(folder))
	stages := read()
	byHand := "\n## Capacity\n\n7,000/s\n"
	require.NoError(t, os.WriteFile(path, []byte(stages+byHand), 0o600))

	goals := goalsFound("abc", "first", "second")
	require.NoError(t, goals.write(folder))
	require.Equal(t, stages+"\n## Goals"+strings.SplitN(string(goals.markdown()), heading+"Goals", 2)[1]+byHand, read())

	require.NoError(t, goalsFound("def", "second", "third").write(folder))
	require.Regexp(t, `\| first \|.*abc \|\n\| second \|.*def \|\n\| third \|.*def \|\n\n## Capacity`, read(),
		"a row that was not measured stays")

	varied := &results{scaling: []row{{stage: "Drain: lanes", unit: "records", limit: "nothing varied", name: "1",
		rate: figure{5, 4, 6}, ratio: figure{1, 1, 1}, chart: true}}}
	require.NoError(t, varied.write(folder))
	require.NoError(t, found().write(folder))
	text := read()
	require.True(t, strings.HasPrefix(text, stages))
	require.Regexp(t, `(?s)## Goals\n.*## Scaling\n.*\| Drain: lanes \| 1 \| 5 \(4 to 6\) records \| 1\.00 \(1\.00 `+
		`to 1\.00\) \|\n\n## Capacity\n`, text)
	require.FileExists(t, filepath.Join(folder, "scaling.svg"))
	require.Equal(t, 1, strings.Count(text, "## Scaling"))
}
