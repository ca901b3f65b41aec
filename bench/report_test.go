package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// found is a complete report. The rates grow by a tenth from round to round.
func found() *results {
	grown := func(one sample) []sample {
		var rounds []sample
		for _, by := range []float64{1, 1.1, 1.2} {
			s := one
			s.rate, s.stored, s.wait = one.rate*by, one.stored*by, 68*time.Millisecond
			rounds = append(rounds, s)
		}
		return rounds
	}
	used := func(pairs ...any) map[string]usage {
		cpu := map[string]usage{}
		for i := 0; i < len(pairs); i += 2 {
			cpu[pairs[i].(string)] = time.Duration(pairs[i+1].(float64) * float64(time.Second))
		}
		return cpu
	}
	limit := &series{name: "fasthttp, no-op", rounds: grown(sample{rate: 129_000, count: 645_000, lasted: 5 * time.Second,
		cpu: used("generator", 5.0, "server", 5.0)})}
	turn := stage{title: "HTTP: the accept path", unit: "trades", limit: limit}
	for i, v := range variants {
		s := sample{rate: 7_000, stored: 6_900, count: 35_000, lasted: 5 * time.Second,
			cpu: used("generator", 1.0, wholeChain, 4.0, inPostgres, 2.5)}
		if v.lacks == "the disk of the embedded broker" {
			s.rate, s.stored = 21_000, 20_700
		}
		if v.broker == blackhole {
			s.rate, s.stored = 25_000+10_000*float64(i), 0
		}
		turn.ours = append(turn.ours, &series{name: v.name, lacks: v.lacks, rounds: grown(s)})
	}
	kgo := &series{name: "kgo, records made beforehand", rounds: grown(sample{rate: 400_000})}
	copying := &series{name: "COPY into one table", rounds: grown(sample{rate: 290_000})}
	apply := []*series{{name: "apply: position, trades, journal", rounds: grown(sample{rate: 82_000})},
		{name: "apply on two connections, the default", rounds: grown(sample{rate: 320_000})}}
	dev := &series{name: "tradestore dev, embedded stores", rounds: grown(sample{rate: 6_800, stored: 6_700, count: 34_000,
		lasted: 5 * time.Second,
		cpu:    used("generator", 0.5, wholeChain, 3.4, inPostgres, 2.0)})}
	r := &results{facts: []fact{{"date", "2026-11-23"}, {"commit", "abc"}}}
	r.addReplaced(turn)
	r.add(stage{"Kafka: produce, <embedded> broker", "records", kgo,
		[]*series{{name: "our producer & its encoder", rounds: grown(sample{rate: 300_000})}}},
		stage{"PostgreSQL: apply, against COPY alone", "rows", copying, apply})
	r.addStacks(stage{"Whole chain", "trades", limit, []*series{dev}})
	return r
}

func TestReport(t *testing.T) {
	text := string(found().markdown())
	f := func(line string) {
		t.Helper()
		require.Contains(t, text, line+"\n")
	}
	f("| commit | abc |")
	f("| HTTP: the accept path | fasthttp, no-op | 141,900 (129,000 to 154,800) trades | accept path alone: no store " +
		"at all | 93,500 (85,000 to 102,000) trades | 0.66 (0.66 to 0.66) |")
	f("|  |  |  | apply on two connections, the default | 352,000 (320,000 to 384,000) rows | 1.10 (1.10 to 1.10) |")
	f("| as it is | 7,700 (7,000 to 8,400) | 7,590 (6,900 to 8,280) | 1.00 (1.00 to 1.00) | 0.20, 0.80, 0.50 |")
	f("| without Kafka, so nothing to apply | 82,500 (75,000 to 90,000) | nothing is stored | 10.87 (10.87 to 10.87) " +
		"| 0.20, 0.80, 0.50 |")
	f("| tradestore dev, embedded stores | 7,370 (6,700 to 8,040) | 68 (68 to 68) | 100 (100 to 100) | PostgreSQL " +
		"0.40, generator 0.10, server, worker, broker 0.68 |")
	require.Contains(t, text, "**What binds: the disk of the embedded broker.** Without it 3.0 times as much gets "+
		"through. Generator, chain and PostgreSQL use 1.5 of")
	require.NotContains(t, text, "NaN")
	require.NotContains(t, text, "%!")
}

func TestRefusalsAreTold(t *testing.T) {
	r := found()
	require.NotContains(t, string(r.markdown()), "other than 202")
	r.stacks.ours[0].rounds[1].other = 12
	require.Contains(t, string(r.markdown()), "Answers other than 202 in a round, tradestore dev, embedded stores: 0 "+
		"(0 to 12).\n")
}

func TestNothingBinds(t *testing.T) {
	r := found()
	for _, s := range r.replaced.ours {
		for i := range s.rounds {
			s.rounds[i].stored = 6_900 + 10*float64(i)
		}
	}
	require.Contains(t, r.binding(), "No store binds by itself")
}

func TestPartsOfAReport(t *testing.T) {
	r := &results{notes: []string{"Without Apache Kafka: no Java."}}
	text := string(r.markdown())
	require.NotContains(t, text, "What binds")
	require.NotContains(t, text, "What a trade costs")
	require.Contains(t, text, "Without Apache Kafka: no Java.")
}

func TestDigits(t *testing.T) {
	f := func(v float64, want string) {
		t.Helper()
		require.Equal(t, want, digits(v))
	}
	f(0.0532, "0.053")
	f(0.532, "0.53")
	f(3.14159, "3.14")
	thousand := func(v float64, want string) {
		t.Helper()
		require.Equal(t, want, thousands(v))
	}
	thousand(0, "0")
	thousand(999.6, "1,000")
	thousand(1_234_567, "1,234,567")
}

func TestWriteKeepsWhatItDidNotMeasure(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "results")
	read := func() string {
		text, err := os.ReadFile(filepath.Join(folder, "RESULTS.md"))
		require.NoError(t, err)
		return string(text)
	}
	require.NoError(t, found().write(folder))
	require.NotContains(t, read(), "Capacity")
	const capacity = "\n## Capacity of the embedded stack\n\n7,000/s\n"
	require.NoError(t, os.WriteFile(filepath.Join(folder, "RESULTS.md"), []byte("# Results of before\n"+capacity), 0o600))
	require.NoError(t, found().write(folder))
	require.True(t, strings.HasSuffix(read(), capacity))
	require.NotContains(t, read(), "of before")
	require.FileExists(t, filepath.Join(folder, "results.svg"))
}

func TestChart(t *testing.T) {
	chart, err := svg("Each stage", "", found().rows)
	require.NoError(t, err)
	text := string(chart)
	require.NotContains(t, text, "NaN")
	require.NotContains(t, text, "<no value>")
	require.Contains(t, text, "prefers-color-scheme: dark")
	require.Contains(t, text, "Kafka: produce, &lt;embedded&gt; broker")
	require.Contains(t, text, "our producer &amp; its encoder")
	require.NotContains(t, text, ": accepted<", "what is stored is the claim")
	for d := xml.NewDecoder(strings.NewReader(text)); ; {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
	}
}

func TestChartScale(t *testing.T) {
	d := draw("Each stage", "", found().rows)
	require.Len(t, d.Groups, 4)
	two := d.Groups[2].Bars[1]
	require.EqualValues(t, barWidth, two.Width, "the largest ratio fills the scale")
	require.InDelta(t, barWidth/1.1034*0.2828, d.Groups[2].Bars[0].Width, 1)
	require.Equal(t, "1", d.Ticks[4].Label)
	require.Equal(t, d.LimitAt, d.Ticks[4].X)
	empty := draw("Nothing", "", nil)
	require.Empty(t, empty.Groups)
	require.Len(t, empty.Ticks, 5)
}
