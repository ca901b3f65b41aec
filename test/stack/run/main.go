// Command stack runs Apache Kafka, DynamoDB Local and PostgreSQL for a developer, without containers, until Ctrl-C.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"tradestore/internal/dev/embedded"
)

// config holds the settings of the command.
type config struct {
	DataDir      string `default:"./tradestore-stack" help:"Folder for data and logs of all three, made when missing. One process at a time."`
	KafkaPort    int    `default:"0" help:"Port of Apache Kafka on 127.0.0.1; 0 takes a free one and keeps it for the next start."`
	PostgresPort int    `default:"0" help:"Port of PostgreSQL on 127.0.0.1; 0 takes a free one and keeps it for the next start."`
	DynamoDBPort int    `name:"dynamodb-port" default:"0" help:"Port of DynamoDB Local on 127.0.0.1; 0 takes a free one and keeps it for the next start."`
	Remove       bool   `help:"Delete the data folder, with the database files wherever they are, and run nothing."`
}

// Validate is called by the parser; its error is shown with the usage.
func (c config) Validate() error {
	var errs []error
	port := func(flag string, port int) {
		if port < 0 || port > 65535 {
			errs = append(errs, fmt.Errorf("%s: not between 0 and 65535", flag))
		}
	}
	port("--kafka-port", c.KafkaPort)
	port("--postgres-port", c.PostgresPort)
	port("--dynamodb-port", c.DynamoDBPort)
	if c.DataDir == "" {
		errs = append(errs, errors.New("--data-dir: empty"))
	}
	return errors.Join(errs...)
}

const description = `Runs Apache Kafka, DynamoDB Local and PostgreSQL on 127.0.0.1 until Ctrl-C.

It needs Java 17 (a JDK) and Maven. The first start fetches about 120 MB into the user's cache folder, or into the
folder that TRADESTORE_CACHE_DIR names. Data, logs and ports stay over a restart. One node each, without
authentication: for a developer's machine.

Example:

    make stack ARGS="--kafka-port 9092 --dynamodb-port 8002"`

func main() {
	embedded.MaybeHelper()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // from the first signal on the second one ends the process at once, and what it started
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run returns the exit code: 0 for done, 1 for failed, 2 for a mistake in the flags.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var cfg config
	helpShown := false
	parser, err := kong.New(&cfg, kong.Name("stack"), kong.Description(description), kong.Writers(stdout, stderr),
		kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 120}), kong.Exit(func(int) { helpShown = true }))
	if err == nil {
		_, err = parser.Parse(args)
	}
	if helpShown {
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "stack: %v\n'make stack ARGS=--help' explains the flags\n", err)
		return 2
	}
	if cfg.Remove {
		err = remove(ctx, cfg.DataDir)
	} else {
		err = serve(ctx, cfg, stdout, stderr)
	}
	if err != nil {
		fmt.Fprintf(stderr, "stack: %v\n", err)
		return 1
	}
	return 0
}
