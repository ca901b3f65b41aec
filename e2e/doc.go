// Package e2e proves the promises of Trade Store on the built binary. It speaks HTTP, Kafka and SQL to running
// processes and knows nothing of their insides.
//
// A Ledger remembers every POST and its answer. Gather reads what the processes left behind: the log, the tables and the
// answers of GET. Check replays the log, record by record, and lists every difference under the invariant it breaks.
package e2e
