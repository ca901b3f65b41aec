// Package loadtest sends trades to a running Trade Store at a given rate and checks its promises: latency, and that
// every 202 is decided and stored as answered. It uses only HTTP, Kafka and SQL.
//
// A Schedule says when each operation is due and a Plan says what it is and how it must be answered; both are functions
// of the operation's number, so a run can be repeated. A Generator sends them in an open loop: it never waits for an
// answer before it sends the next operation, so a slow server cannot slow the test down. Results keeps every answer.
// Latency counts from the time at which an operation was due. After the last operation Reconcile waits for all outcomes
// and compares what GET shows and the tables hold with the answers. Judge compares the Report with the objectives.
package loadtest
