// Package failpoint injects crashes and faults into a process, for tests. Here kills the process at a named line: the
// tests check that the service recovers. Injected makes the process break a promise: the tests check that the checker
// of the invariants reports it. Both act only in a binary built with -tags failpoint; in any other build they are
// empty and compile to nothing.
package failpoint
