//go:build !failpoint

package failpoint

// Here does nothing in this build.
func Here(string) {}

// Injected is false in this build, so the compiler leaves out the code behind it.
func Injected(string) bool { return false }
