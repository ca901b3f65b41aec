package loadtest

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// sampleResults are as many operations as asked for, a millisecond apart, of which number n is answered after n µs.
func sampleResults(n uint64) *Results {
	results := NewResults(time.Date(2026, 11, 23, 3, 30, 12, 0, time.UTC))
	for seq := range n {
		due := time.Duration(seq) * time.Millisecond
		results.Add(Result{Seq: seq, Due: due, Sent: due + 10, Done: due + time.Duration(seq+1)*time.Microsecond, Status: 202,
			BytesIn: 100, BytesOut: 180})
	}
	return results
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var found []string
	for _, e := range entries {
		found = append(found, e.Name())
	}
	return found
}

func TestWriteMakesOneWholeFolder(t *testing.T) {
	out := filepath.Join(t.TempDir(), "not", "there", "yet")
	r := sampleReport(65)
	dir := Folder(out, r.Started)
	require.Equal(t, "2026-11-23T033012Z", filepath.Base(dir))

	require.NoError(t, Write(dir, r, sampleResults(10)))
	assert.Equal(t, dir, r.Folder)
	assert.Equal(t, []string{"line.md", "report.html", "report.json", "results.bin"}, names(t, dir))
	line, err := os.ReadFile(filepath.Join(dir, lineFile))
	require.NoError(t, err)
	assert.Equal(t, r.Line()+"\n", string(line))

	require.NoError(t, Write(dir, r, sampleResults(10)), "a run that began in the same second")
	assert.Equal(t, dir+"-2", r.Folder)
	assert.Equal(t, []string{filepath.Base(dir), filepath.Base(dir) + "-2"}, names(t, out), "nothing unfinished is left")
}

func TestWriteLeavesNothingThatLooksWhole(t *testing.T) {
	out := t.TempDir()
	inTheWay := filepath.Join(out, "file")
	require.NoError(t, os.WriteFile(inTheWay, nil, 0o600))
	require.ErrorContains(t, Write(filepath.Join(inTheWay, "report"), sampleReport(1), sampleResults(1)), "--out")

	r := sampleReport(1)
	r.Load.Rate = math.NaN()
	require.ErrorContains(t, Write(filepath.Join(out, "report"), r, sampleResults(1)), "NaN")
	assert.Equal(t, []string{"file"}, names(t, out))
	assert.Empty(t, r.Folder)
}

func TestWriteFileNamesWhatItCannotWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report.json")
	broken := errors.New("no space left")
	err := writeFile(path, func(io.Writer) error { return broken })
	require.ErrorIs(t, err, broken)
	require.ErrorContains(t, err, "cannot write report.json")
	require.ErrorContains(t, writeFile(path, bytesTo(nil)), "cannot make report.json", "it is there already")
}

func TestJSONRoundTrips(t *testing.T) {
	r := sampleReport(20)
	r.Capacity = sampleCapacity()
	text, err := r.JSON()
	require.NoError(t, err)
	var back Report
	require.NoError(t, json.Unmarshal(text, &back))
	assert.Equal(t, *r, back)
	assert.Equal(t, 1, back.Schema)
}

// The metrics of a server may hold anything that a float can.
func TestSamplesThatJSONHasNoWordsForAreDropped(t *testing.T) {
	r := &Report{Series: []Series{{Name: "lag", Points: []Sample{{0, 1}, {1, math.NaN()}, {2, math.Inf(1)}, {3, 4}}}}}
	require.NoError(t, Write(filepath.Join(t.TempDir(), "report"), r, sampleResults(1)))
	assert.Equal(t, []Sample{{0, 1}, {3, 4}}, r.Series[0].Points)
}

// hits reads a results.bin as vegeta does.
func hits(t *testing.T, r *Report) []vegeta.Result {
	t.Helper()
	f, err := os.Open(filepath.Join(r.Folder, resultsFile))
	require.NoError(t, err)
	defer f.Close()
	decode := vegeta.DecoderFor(f)
	require.NotNil(t, decode)
	var all []vegeta.Result
	for {
		var hit vegeta.Result
		if err := decode(&hit); errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		all = append(all, hit)
	}
}

// `vegeta report` must see what the report says: the same operations, the same latencies.
func TestResultsAreInVegetasFormat(t *testing.T) {
	const all, warm = 20_000, 5_000
	results := sampleResults(all)
	r := &Report{Load: Load{Warmup: warm / 1000.0}}
	require.NoError(t, Write(filepath.Join(t.TempDir(), "report"), r, results))

	var metrics vegeta.Metrics
	for _, hit := range hits(t, r) {
		metrics.Add(&hit)
		ours, ok := results.Get(hit.Seq)
		require.True(t, ok)
		require.Equal(t, ours.Latency(), hit.Latency)
		require.True(t, results.Began().Add(ours.Due).Equal(hit.Timestamp))
		require.Equal(t, "new", hit.Attack)
	}
	metrics.Close()
	assert.EqualValues(t, all-warm, metrics.Requests)
	assert.InDelta(t, 1000, metrics.Rate, 1)
	assert.InDelta(t, 1, metrics.Success, 0)
	assert.InEpsilon(t, (all+warm)/2*time.Microsecond, metrics.Latencies.P50, 0.01)
	assert.InEpsilon(t, (all-(all-warm)/100)*time.Microsecond, metrics.Latencies.P99, 0.01)
	assert.Equal(t, all*time.Microsecond, metrics.Latencies.Max)
}

// The same of operations that were really sent: what a reader of results.bin computes is what the report says.
func TestReportOfARealAttack(t *testing.T) {
	plan := NewPlan("r-", 1, DefaultMix, 50, 0)
	schedule := NewSchedule(200*time.Millisecond, []Stage{{500, 500, 600 * time.Millisecond}})
	server := newFake(t, plan, schedule.Total())
	results := NewResults(time.Now())
	require.NoError(t, Vegeta{}.Attack(t.Context(), server.url, plan, schedule, results))
	found := Analyse(schedule, plan, results, schedule.Length())
	r := &Report{Schema: 1, Verdict: Pass, Load: found.Load, Answers: found.Answers, Accept: found.Accept,
		Sent: found.Sent, Timeline: found.Timeline}
	r.Load.Warmup = 0.2
	require.NoError(t, Write(Folder(t.TempDir(), results.Began()), r, results))

	all := hits(t, r)
	assert.Len(t, all, int(r.Load.Sent))
	var accepted []time.Duration
	kinds := map[string]bool{}
	for _, hit := range all {
		kinds[hit.Attack] = true
		if hit.Code == 202 {
			accepted = append(accepted, hit.Latency)
		}
	}
	assert.Equal(t, r.Accept, Describe(accepted))
	assert.Len(t, kinds, len(r.Answers))
	shown := map[string]bool{}
	for _, n := range parse(t, r) {
		if attribute(n, "class") == "plot" {
			shown[attribute(n, "id")] = true
		}
	}
	assert.Equal(t, map[string]bool{"latency": true, "percentiles": true, "throughput": true}, shown)
}
