package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"tradestore/internal/dev/embedded"
	"tradestore/internal/proc"
	"tradestore/test/stack/services"
)

const startLimit = 10 * time.Minute // of all three, with their downloads

// envName is the file in the data folder that tells a shell where the services are. It holds the database's password.
const envName = "env"

// stack is what runs.
type stack struct {
	dir      string // absolute
	postgres *embedded.Postgres
	kafka    *services.Kafka
	dynamodb *services.DynamoDB
	stops    []func() // in the order of the starts
}

// serve starts all three, says how to use them, and stops them when ctx ends or one is lost.
func serve(ctx context.Context, cfg config, out, progress io.Writer) error {
	unlock, err := open(cfg.DataDir)
	if err != nil {
		return err
	}
	defer unlock()
	s := new(stack)
	defer s.stop()
	err = s.start(ctx, cfg, progress)
	if ctx.Err() != nil {
		return nil // stopped while it started
	}
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(s.dir, envName), []byte(s.env()), 0o600); err != nil {
		return fmt.Errorf("cannot note the addresses (--data-dir): %w", err)
	}
	fmt.Fprint(out, s.banner(cfg.DataDir))
	select {
	case <-ctx.Done():
		fmt.Fprintln(progress, "stopping")
		return nil
	case <-s.kafka.Done():
		return fmt.Errorf("Apache Kafka ended, see %s", s.kafka.Log()) //nolint:staticcheck // a name
	case <-s.dynamodb.Done():
		return fmt.Errorf("DynamoDB Local ended, see %s", s.dynamodb.Log()) //nolint:staticcheck // a name
	}
}

func (s *stack) start(ctx context.Context, cfg config, progress io.Writer) (err error) {
	if s.dir, err = filepath.Abs(cfg.DataDir); err != nil {
		return fmt.Errorf("cannot use the data folder (--data-dir): %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("not ready after %v", startLimit))
	defer cancel()

	fmt.Fprintln(progress, "starting PostgreSQL")
	log := zerolog.New(zerolog.ConsoleWriter{Out: progress, NoColor: true, PartsExclude: []string{"time"}})
	s.postgres, err = embedded.Start(ctx,
		embedded.Config{Dir: filepath.Join(s.dir, "postgres"), Port: cfg.PostgresPort, Log: log})
	if err != nil {
		return blame("--postgres-port", err)
	}
	s.stops = append(s.stops, s.postgres.Stop)

	fmt.Fprintln(progress, "starting Apache Kafka")
	s.kafka, err = services.StartKafka(ctx,
		services.KafkaConfig{Dir: filepath.Join(s.dir, "kafka"), Port: cfg.KafkaPort, FullSpeed: true})
	if err != nil {
		return blame("--kafka-port", err)
	}
	s.stops = append(s.stops, s.kafka.Stop)

	fmt.Fprintln(progress, "starting DynamoDB Local")
	s.dynamodb, err = services.StartDynamoDB(ctx,
		services.DynamoDBConfig{Dir: filepath.Join(s.dir, "dynamodb"), Port: cfg.DynamoDBPort, FullSpeed: true})
	if err != nil {
		return blame("--dynamodb-port", err)
	}
	s.stops = append(s.stops, s.dynamodb.Stop)
	return nil
}

// stop ends what runs, the last started first.
func (s *stack) stop() {
	for i := len(s.stops) - 1; i >= 0; i-- {
		s.stops[i]()
	}
}

// blame names the flag that moves a port.
func blame(flag string, err error) error {
	if errors.Is(err, proc.ErrPortTaken) {
		return fmt.Errorf("%w: choose another with %s", err, flag)
	}
	return err
}

// open makes the data folder and takes it for this process.
func open(dir string) (unlock func(), err error) {
	if err := embedded.MakeDir(dir); err != nil {
		return nil, fmt.Errorf("cannot use the data folder (--data-dir): %w", err)
	}
	unlock, err = proc.Lock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("cannot use the data folder %s (--data-dir): %w", dir, err)
	}
	return unlock, nil
}

// remove deletes what is ours in the data folder, and the folder when nothing else is in it.
func remove(ctx context.Context, dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	unlock, err := open(dir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := embedded.Remove(ctx, filepath.Join(dir, "postgres")); err != nil {
		return err
	}
	for _, name := range []string{"kafka", "dynamodb", envName, "lock"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("cannot remove the data folder (--data-dir): %w", err)
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, syscall.ENOTEMPTY) {
		return fmt.Errorf("cannot remove the data folder (--data-dir): %w", err)
	}
	return nil
}

// env is a script for the shell. DynamoDB Local takes any credentials, but the client insists on some.
func (s *stack) env() string {
	return fmt.Sprintf(`export TRADESTORE_DATABASE_URL='%s'
export TRADESTORE_KAFKA_BROKERS=%s
export TRADESTORE_PROFILE=single
export TRADESTORE_DYNAMODB_ENDPOINT=%s
export AWS_REGION=local AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local
`, s.postgres.URL(), s.kafka.Addrs()[0], s.dynamodb.Endpoint())
}

const banner = `
The services are ready, for this machine only:

  Kafka       %[1]s   Apache Kafka %[2]s
  DynamoDB    %[3]s   DynamoDB Local %[4]s
  PostgreSQL  127.0.0.1:%[5]d   version %[6]s
  Data, logs  %[7]s   (the database's password is in %[8]s)

'make build' makes ./tradestore. Then, in a terminal of its own for the server and one for the worker:

  . %[8]s
  ./tradestore migrate
  ./tradestore server

  . %[8]s
  ./tradestore worker

Requests are tracked in PostgreSQL. To have them in DynamoDB, set this in both terminals first:

  export TRADESTORE_REQUEST_STORE=dynamodb

Ctrl-C stops all three. The data stays; 'make stack ARGS=--remove' deletes it.

`

func (s *stack) banner(dataDir string) string {
	env := filepath.Join(s.dir, envName)
	if filepath.IsLocal(dataDir) { // shorter, and the shell looks for a script without a slash elsewhere
		env = "./" + filepath.Join(dataDir, envName)
	}
	return fmt.Sprintf(banner, s.kafka.Addrs()[0], services.KafkaVersion, s.dynamodb.Endpoint(), services.DynamoDBVersion,
		s.postgres.Port(), s.postgres.Version(), s.dir, env)
}
