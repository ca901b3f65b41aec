package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/teststack"
)

// stores are what the roles stand on when each runs in a process of its own.
type stores struct {
	kafka    []string
	database string   // URL
	dynamoDB string   // URL; empty: the request log is in the database
	env      []string // further settings of every role
}

// embeddedStores are quick to start: the log is in memory.
func embeddedStores(t *testing.T) stores {
	t.Helper()
	return stores{kafka: teststack.Kafka(t), database: teststack.Database(t)}
}

// realStores are Apache Kafka and PostgreSQL, each shared with other tests.
func realStores(t *testing.T) stores {
	t.Helper()
	return stores{kafka: teststack.SharedApacheKafka(t), database: teststack.Database(t)}
}

// onEach runs a test on both kinds of stack: everything in one process, and two servers and two workers on the real
// stores. The test sees no difference.
func onEach(t *testing.T, test func(t *testing.T, s *stack)) {
	t.Helper()
	t.Run("dev", func(t *testing.T) { test(t, newDev(t, teststack.Database(t))) })
	t.Run("real", func(t *testing.T) { test(t, newRoles(t, realStores(t), 2, 2)) })
}

// newRoles returns a stack of servers and workers in processes of their own, migrated. A topic and a group of its own
// keep it apart from others on the same brokers. Clients take the servers in turn.
func newRoles(t *testing.T, on stores, servers, workers int) *stack {
	t.Helper()
	name := fmt.Sprintf("e2e-%d", time.Now().UnixNano())
	s := &stack{path: binary(t), ledger: NewLedger(), group: name}
	s.Kafka, s.Database, s.Topic = on.kafka, on.database, name
	s.env = append([]string{
		"TRADESTORE_DATABASE_URL=" + s.Database, "TRADESTORE_KAFKA_BROKERS=" + strings.Join(s.Kafka, ","), "TRADESTORE_TOPIC=" + name,
		"TRADESTORE_PROFILE=single", "TRADESTORE_LOG_FORMAT=json",
	}, on.env...)
	if on.dynamoDB != "" {
		s.DynamoDB, s.Table = on.dynamoDB, name
		s.env = append(s.env, "TRADESTORE_REQUEST_LOG=dynamodb", "TRADESTORE_DYNAMODB_ENDPOINT="+on.dynamoDB, "TRADESTORE_DYNAMODB_TABLE="+name)
	}
	migrate := launch(t, "migrate", s.path, s.env, "migrate")
	require.Zero(t, migrate.exit(t), migrate.tail(t))

	var bases []string
	for i := range servers {
		bases = append(bases, s.add(t, "server", i+1))
	}
	for i := range workers {
		s.Worker = s.add(t, "worker", i+1, "--kafka-group", name)
	}
	s.API, s.client = bases[0], NewClient(s.ledger, 64, bases...)
	return s
}

// add puts a process of a role into the stack and returns where it will answer.
func (s *stack) add(t *testing.T, kind string, number int, args ...string) (base string) {
	t.Helper()
	at := freeAddress(t)
	s.roles = append(s.roles, &role{
		name: fmt.Sprintf("%s%d", kind, number), args: append([]string{kind, "--listen", at}, args...), ready: []string{"http://" + at + "/readyz"},
	})
	return "http://" + at
}

// named returns the process of that name.
func (s *stack) named(name string) *process {
	for _, r := range s.roles {
		if r.name == name {
			return r.proc
		}
	}
	return nil
}

// running returns where the servers answer that have a process.
func (s *stack) running() (bases []string) {
	for _, r := range s.roles {
		if strings.HasPrefix(r.name, "server") && r.proc.alive() {
			bases = append(bases, strings.TrimSuffix(r.ready[0], "/readyz"))
		}
	}
	return bases
}
