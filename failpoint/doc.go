// Package failpoint kills the process at a named line, so that tests can prove what a crash there leaves behind.
// It does so only in a binary built with -tags failpoint; in any other build Here is empty and compiles to nothing.
package failpoint
