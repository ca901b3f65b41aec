//go:build !failpoint

package failpoint

// Here does nothing in this build.
func Here(string) {}

// Planted is false in this build, so what it guards is left out of it.
func Injected(string) bool { return false }
