package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tradestore/test/program"
	"tradestore/test/stack"
)

// stores are what the roles stand on when each runs in a process of its own.
type stores struct {
	kafka    []string
	database string   // URL
	dynamoDB string   // URL; empty: the request store is in the database
	env      []string // further settings of the roles
}

// handOver makes the group take the partitions of a silent worker away soon. The embedded broker does not do that.
var handOver = []string{"TRADESTORE_KAFKA_SESSION_TIMEOUT=3s", "TRADESTORE_TRANSACTION_LIMIT=5s"}

// embeddedStores are quick to start: the log is in memory.
func embeddedStores(t *testing.T) stores {
	t.Helper()
	return stores{kafka: stack.Kafka(t), database: stack.Database(t)}
}

// realStores are Apache Kafka and PostgreSQL, each shared with other tests.
func realStores(t *testing.T) stores {
	t.Helper()
	return realStoresWith(t, stack.Database(t))
}

// realStoresWith are the same with a database of the test's own.
func realStoresWith(t *testing.T, database string) stores {
	t.Helper()
	return stores{kafka: stack.SharedApacheKafka(t), database: database, env: handOver}
}

// withDynamoDB are the same with the request store on DynamoDB Local.
func withDynamoDB(t *testing.T) stores {
	t.Helper()
	on := realStores(t)
	on.dynamoDB = stack.DynamoDB(t)
	return on
}

// The kinds of stack on which tests run that see no difference between them.
const (
	onDev      = "dev"      // everything in one process
	onReal     = "real"     // two servers and two workers on Apache Kafka and PostgreSQL
	onDynamoDB = "dynamodb" // the same with the request store on DynamoDB Local
)

// on runs a test on each of the kinds of stack given, side by side where there is room.
func on(t *testing.T, test func(t *testing.T, s *deployment), kinds ...string) {
	t.Helper()
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			switch kind {
			case onDev:
				test(t, newDev(t, stack.Database(t)))
			case onReal:
				test(t, newRoles(t, realStores(t), 2, 2))
			case onDynamoDB:
				test(t, newRoles(t, withDynamoDB(t), 2, 2))
			}
		})
	}
}

// newRoles returns a stack of servers and workers in processes of their own. Its first start migrates, with the
// settings that the roles then have. A topic and a group of its own keep it apart from others on the same brokers.
// Clients take the servers in turn. The program has the race detector where the tests have it, but on DynamoDB it runs
// at its full speed, as it does as `tradestore dev`: once through every path is enough for races, and the machine has
// other work.
func newRoles(t *testing.T, on stores, servers, workers int) *deployment {
	t.Helper()
	name := fmt.Sprintf("e2e-%d", time.Now().UnixNano())
	s := &deployment{build: program.BuildRace, ledger: NewLedger(), group: name, fresh: true}
	if on.dynamoDB != "" {
		s.build = program.Build
	}
	s.path = s.build(t)
	s.Kafka, s.Database, s.Topic = on.kafka, on.database, name
	s.env = append([]string{
		"TRADESTORE_DATABASE_URL=" + s.Database, "TRADESTORE_KAFKA_BROKERS=" + strings.Join(s.Kafka, ","),
		"TRADESTORE_TOPIC=" + name,
		"TRADESTORE_PROFILE=single", "TRADESTORE_LOG_FORMAT=json",
	}, on.env...)
	if on.dynamoDB != "" {
		s.DynamoDB, s.Table = on.dynamoDB, name
		s.env = append(s.env, "TRADESTORE_REQUEST_STORE=dynamodb", "TRADESTORE_DYNAMODB_ENDPOINT="+on.dynamoDB,
			"TRADESTORE_DYNAMODB_TABLE="+name)
	}
	var bases []string
	for i := range servers {
		r := s.add(t, "server", i+1)
		r.base = r.at()
		bases = append(bases, r.base)
	}
	for i := range workers {
		s.Worker = s.add(t, "worker", i+1, "--kafka-group", name).at()
	}
	s.API, s.client = bases[0], NewClient(s.ledger, idleConns, bases...)
	return s
}

// add puts a process of a role into the stack.
func (s *deployment) add(t *testing.T, kind string, number int, args ...string) *role {
	t.Helper()
	at := freeAddress(t)
	r := &role{
		name: fmt.Sprintf("%s%d", kind, number), args: append([]string{kind, "--listen", at}, args...),
		ready: []string{"http://" + at + "/readyz"},
	}
	s.roles = append(s.roles, r)
	return r
}

// at is where a process of one role answers.
func (r *role) at() string { return strings.TrimSuffix(r.ready[0], "/readyz") }

// first returns the first process of a kind, server or worker; `tradestore dev` is both.
func (s *deployment) first(kind string) *role {
	for _, r := range s.roles {
		if strings.HasPrefix(r.name, kind) || r.name == "dev" {
			return r
		}
	}
	return nil
}

// named returns the process of that name.
func (s *deployment) named(name string) *program.Process {
	for _, r := range s.roles {
		if r.name == name {
			return r.proc
		}
	}
	return nil
}

// running returns where the servers answer that have a process.
func (s *deployment) running() (bases []string) {
	for _, r := range s.roles {
		if r.base != "" && r.proc.Running() {
			bases = append(bases, r.base)
		}
	}
	return bases
}
