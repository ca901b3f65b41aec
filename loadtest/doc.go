// Package loadtest asks a running Trade Store for a given rate of trades, and says whether it kept its promises: fast
// enough, and every 202 decided and stored as answered. It speaks only HTTP, Kafka and SQL to the processes.
//
// A Schedule says when each operation is due and a Plan says what it is and how it must be answered; both are functions
// of the operation's number, so a run can be repeated. A Generator sends them in an open loop: it never waits for an
// answer before it sends the next operation, so a slow server can't slow its own test down. Results keeps every answer.
// Latency counts from the time at which an operation was due. After the last operation Reconcile waits until everything
// accepted has ended, and compares what is shown and stored with what was answered. Judge holds the Report against the
// objectives.
package loadtest
