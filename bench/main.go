// Command bench measures Trade Store against the limits of the machine it runs on and writes bench/RESULTS.md.
//
//	go run ./bench            everything, a few minutes
//	go run ./bench -only micro|pipeline
//
// Figures of one run may be compared with each other, and with nothing else: machines differ, and so do hours.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "noop" {
		exit(serveNoop())
	}
	out := flag.String("out", "bench/RESULTS.md", "file to write")
	only := flag.String("only", "", "measure one part: micro or pipeline")
	rounds := flag.Int("rounds", 3, "interleaved rounds; the median is reported with its spread")
	hold := flag.Duration("hold", 10*time.Second, "how long each round of the pipeline lasts")
	connections := flag.Int("connections", 256, "HTTP connections of the generator")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	report := newReport()
	if *only != "pipeline" {
		if err := micro(ctx, report, *rounds); err != nil {
			exit(err)
		}
	}
	if *only != "micro" {
		if err := pipeline(ctx, report, *rounds, *hold, *connections); err != nil {
			exit(err)
		}
	}
	exit(report.write(*out))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}
