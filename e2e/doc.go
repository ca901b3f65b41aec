// Package e2e proves the promises of Trade Store on the built binary. It speaks HTTP, Kafka and SQL to running
// processes and knows nothing of their insides.
//
// A Ledger remembers every POST and its answer. Gather reads what the processes left behind: the log, the tables and the
// answers of GET. Check replays the log, record by record, and lists every difference under the invariant it breaks.
//
// The tests build the binary once per run: with the race detector if they have it themselves, and for coverage if
// GOCOVERDIR names a folder. TRADESTORE_E2E_LONG=1 repeats each fault as often as a long run should, such as 100 kills
// per failpoint; that takes hours and wants a longer -timeout.
package e2e
