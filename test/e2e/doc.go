// Package e2e proves the promises of Trade Store on the built binary. It speaks HTTP, Kafka and SQL to running
// processes and knows nothing of their insides.
//
// A Ledger remembers every POST and its answer. Gather reads what the processes left behind: the log, the tables and
// the answers of GET. Check replays the log, record by record, and lists every difference under the invariant it
// breaks.
//
// The tests run on three kinds of stack: `tradestore dev`, which is everything in one process, and two servers and two
// workers in processes of their own on Apache Kafka and PostgreSQL, with the request store there or on DynamoDB Local.
// These are killed, frozen and restarted under load; where Java or Maven is missing, tests that need them are skipped,
// and under CI=true fail. A few tests run side by side, because they wait more than they work; -parallel changes how
// many.
//
// The tests build the binary once per run: with the race detector if they have it themselves, and for coverage if
// GOCOVERDIR names a folder. TRADESTORE_E2E_LONG=1 repeats each fault as often as a long run should, such as 100 kills
// per failpoint, and posts a thousand trades a second for a minute; that takes hours and wants a longer -timeout.
// TRADESTORE_E2E_DYNAMODB_RATE is how many trades a second are posted with the request store on DynamoDB Local, which
// is an emulator: 200, or 1,000 in a long run. TRADESTORE_E2E_UPGRADE_ROWS is how many rows each large table has when a
// long run rehearses an upgrade (200,000), and TRADESTORE_E2E_PREVIOUS the binary of the release to upgrade from.
package e2e
