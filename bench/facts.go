package main

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"tradestore/test/stack/services"
)

// fact is one line about the conditions of a run.
type fact struct{ name, value string }

// cores is the number of cores for generator, product and stores together.
func cores() int { return runtime.NumCPU() }

// facts returns the conditions of the run, at its end.
func (h *harness) facts(ctx context.Context) []fact {
	all := []fact{
		{"date", time.Now().UTC().Format(time.DateOnly)},
		{"commit", commit(ctx)},
		{"machine", machine()},
		{"Go", runtime.Version()},
	}
	if h.postgres != nil {
		all = append(all, fact{"PostgreSQL", fmt.Sprintf("%s, on the same machine, synced to disk at each commit, "+
			"shared_buffers %s, max_wal_size %s",
			h.postgres.Version(), sharedBuffers(), maxWAL)})
	}
	if h.kafka != nil {
		all = append(all, fact{"Apache Kafka", services.KafkaVersion +
			", one broker on the same machine, acknowledging from memory as it does by default"})
	}
	return append(all, fact{"rounds", fmt.Sprintf("%d of %v each, in turn; %d connections in a closed loop", h.rounds,
		h.hold, h.connections)},
		fact{"took", time.Since(h.began).Round(time.Second).String()})
}

// commit names the commit, with a mark for a dirty tree.
func commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// machine describes the machine as far as the system reports it.
func machine() string {
	parts := []string{fmt.Sprintf("%d cores for everything, generator included", cores())}
	processor, gib := hardware()
	if processor != "" {
		parts = append([]string{processor}, parts...)
	}
	if gib > 0 {
		parts = append(parts, fmt.Sprintf("%d GiB", gib))
	}
	return strings.Join(append(parts, runtime.GOOS+"/"+runtime.GOARCH), ", ")
}
