// Command promtool runs the promtool of the Prometheus that tests use. The first time on a machine both are built.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"tradestore/test/stack/services"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "promtool: %v\n", err)
		os.Exit(1)
	}
}

// run becomes promtool, so it returns only when it can't.
func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	dir, err := services.FetchPrometheus(ctx, "")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "promtool")
	return fmt.Errorf("cannot run %s: %w", path,
		syscall.Exec(path, append([]string{"promtool"}, os.Args[1:]...), os.Environ()))
}
