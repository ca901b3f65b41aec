// Command bench measures each stage of Trade Store and its limit in the same rounds, and writes bench/RESULTS.md and
// its charts.
//
// This process makes the load and starts everything under test as processes of its own. Compare only figures of one
// run: machines and times differ.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"tradestore/internal/dev/embedded"
)

// part is a piece of a run that -only can select.
type part struct {
	name, about string
	needs       []*need
	measure     func(ctx context.Context, l *harness, r *results) error
	connections int  // of its closed loops; 0: that of -connections
	vegeta      bool // use vegeta, not the light generator
}

// closedLoop says how trades are sent in a closed loop.
type closedLoop struct {
	connections int
	vegeta      bool
}

var parts = []part{
	{name: "accept", measure: accept, needs: []*need{needPostgres, needLimit},
		about: "the accept path against a no-op fasthttp server, and the chain with each store replaced in turn"},
	{name: "produce", measure: produce, needs: []*need{needApache},
		about: "our producer against the Kafka client alone, on the embedded broker and on Apache Kafka"},
	{name: "apply", measure: applying, needs: []*need{needPostgres, needBenchmarks},
		about: "the apply transaction against COPY and against an upsert alone"},
	{name: "stacks", measure: stacks, needs: []*need{needPostgres, needApache, needProgram, needLimit},
		about: "the whole product: `tradestore dev`, and server and worker on Apache Kafka and PostgreSQL"},
}

// goalParts measure the goals. They take longer, so -goals selects them.
var goalParts = []part{
	{name: "sustained", measure: sustained, needs: []*need{needPostgres, needApache, needProgram, needLimit},
		connections: 256,
		about:       "server and worker on Apache Kafka under a sustained load: rates, lag, CPU per trade"},
	{name: "vegeta", measure: sustained, needs: []*need{needPostgres, needApache, needProgram, needLimit},
		connections: 256, vegeta: true, about: "the same with vegeta as the generator, which uses more CPU"},
	{name: "memory", measure: memory, needs: []*need{needPostgres, needApache, needProgram},
		connections: 256, about: "the memory of server and worker under the same load, 30 times as long"},
	{name: "cost", measure: observing, needs: []*need{needPostgres, needApache, needProgram},
		connections: 256, about: "server and worker with metrics, 1 % traces and logs, against the same without"},
	{name: "drain", measure: draining, needs: []*need{needPostgres, needApache, needProgram, needBenchmarks},
		about: "a worker that drains a filled topic, records new, replaced and stale, against an upsert alone"},
	{name: "latency", measure: latency, needs: []*need{needPostgres, needApache, needProgram, needLimit},
		about: "time to the answer and to SUCCESS at a rate that leaves the machine idle"},
	{name: "overload", measure: overload, needs: []*need{needPostgres, needApache, needProgram},
		about: "goodput above the capacity of a slow store, and the recovery"},
	{name: "rows", measure: rows, needs: []*need{needPostgres, needApache, needProgram},
		about: "a drain into tables of many rows against one into empty tables"},
	{name: "scaling", measure: scaling, needs: []*need{needPostgres, needApache, needProgram},
		about: "drain and accept by lanes, workers, partitions, batches, rows in the tables and mix of trade ids"},
}

const usage1 = `bench measures each stage of Trade Store and its limit in the same rounds, and writes RESULTS.md
and results.svg. A run keeps the parts of RESULTS.md that it does not measure.

  go run ./bench                                      all of it, about seven minutes on two cores; let nothing else run
  go run ./bench -goals                               what the product is held to, and how it scales: scaling.svg
  go run ./bench -only apply                          one part, printed; with -out DIR it is written
  go run ./bench -rounds 1 -hold 1s -out /tmp/bench   whether all of it works; such figures mean nothing

Parts:
`

const usage2 = `
Everything under test runs as a process of its own on this machine; this process makes the load. Apache Kafka needs
Java 17 and Maven. Without them its rows are left out, and the report says so. Flags:
`

func main() {
	embedded.MaybeHelper()
	if err := start(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// start is a run, or the mode of a child of a run.
func start() error {
	if mode, ok := childModes[arg(1)]; ok {
		return mode()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return run(ctx, os.Args[1:], os.Stdout, os.Stderr)
}

// childModes are the modes of this program as a child: a process under test or a store.
var childModes = map[string]func() error{
	"noop":   serveNoop,
	"broker": func() error { return serveBroker(arg(2), arg(3)) },
	"chain": func() error {
		return serveChain(chainSpec{broker: arg(3), replaced: strings.Split(arg(4), ","), database: os.Getenv(databaseVar)},
			arg(2))
	},
}

func arg(n int) string {
	if n < len(os.Args) {
		return os.Args[n]
	}
	return ""
}

// run parses the arguments and measures.
func run(ctx context.Context, args []string, stdout, progress io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(progress)
	out := flags.String("out", "", "`folder` to write to; bench by default, nowhere with -only")
	goals := flags.Bool("goals", false, "measure the goals and the scaling instead")
	only := flags.String("only", "", "`parts` to measure, separated by commas")
	var s settings
	flags.IntVar(&s.rounds, "rounds", 3, "interleaved rounds; the median is reported with its spread")
	flags.DurationVar(&s.hold, "hold", 5*time.Second, "how long each round of each series lasts")
	flags.IntVar(&s.connections, "connections", 512, "HTTP connections of the generator; each sends its next trade "+
		"when the last is answered, so this is how many are under way")
	flags.DurationVar(&s.sustain, "sustain", time.Minute, "of -goals: how long the sustained load is held in each round")
	flags.IntVar(&s.records, "records", 300_000, "of -goals: records of one drain; of scaling half as many")
	flags.IntVar(&s.tableRows, "table-rows", 50_000_000,
		"of -goals: rows in each table that is full, 0.4 GB for a million in both; scaling has tables of a fifth and a "+
			"fiftieth")
	flags.Usage = func() { help(progress, flags) }
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return errUsage
	}
	if flags.NArg() > 0 {
		return errors.New("nothing follows the flags")
	}
	if err := s.check(); err != nil {
		return err
	}
	s.flags = given(flags)
	chosen, err := choose(*only, *goals)
	if err != nil {
		return err
	}
	if *out == "" && *only == "" {
		*out = "bench"
	}
	return measure(ctx, s, chosen, *out, stdout, progress)
}

// given returns the given flags that change the measurement, as text for a command.
func given(flags *flag.FlagSet) (all string) {
	flags.Visit(func(f *flag.Flag) {
		if !slices.Contains([]string{"out", "only", "goals"}, f.Name) {
			all += " -" + f.Name + " " + f.Value.String()
		}
	})
	return all
}

// errUsage is a mistake in the flags that was already printed.
var errUsage = errors.New("see -h")

func help(w io.Writer, flags *flag.FlagSet) {
	fmt.Fprint(w, usage1)
	for _, p := range slices.Concat(parts, goalParts) {
		fmt.Fprintf(w, "  %-9s  %s\n", p.name, p.about)
	}
	fmt.Fprint(w, usage2)
	flags.PrintDefaults()
}

// choose returns the named parts, or for an empty list all parts of the stages or of the goals.
func choose(list string, goals bool) ([]part, error) {
	switch {
	case list == "" && goals:
		return goalParts, nil
	case list == "":
		return parts, nil
	case goals:
		return nil, errors.New("-goals and -only exclude each other")
	}
	all := slices.Concat(parts, goalParts)
	var chosen []part
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(all, func(p part) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("-only: there is no part %q; -h lists them", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// measure runs the parts and writes the results to the folder, or to stdout if there is none.
func measure(ctx context.Context, s settings, chosen []part, folder string, stdout, progress io.Writer) error {
	h, err := newHarness(s, progress)
	if err != nil {
		return err
	}
	defer h.stop()
	if err := h.prepare(ctx, chosen); err != nil {
		return err
	}
	h.say("that took %.0f s", time.Since(h.began).Seconds())
	r := &results{flags: s.flags}
	for _, p := range chosen {
		began := time.Now()
		h.loop = closedLoop{connections: cmp.Or(p.connections, s.connections), vegeta: p.vegeta}
		if err := p.measure(ctx, h, r); err != nil {
			return fmt.Errorf("part %s: %w", p.name, err)
		}
		h.say("%s took %.0f s", p.name, time.Since(began).Seconds())
	}
	if h.noKafka != nil {
		r.notes = append(r.notes, "Without Apache Kafka: "+h.noKafka.Error()+".")
	}
	r.facts = h.facts(ctx)
	if folder == "" {
		_, err := stdout.Write(r.markdown())
		return err
	}
	if err := r.write(folder); err != nil {
		return err
	}
	h.say("wrote RESULTS.md and the charts to %s", folder)
	return nil
}
