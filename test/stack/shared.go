package stack

import (
	"os"
	"sync"
	"testing"
)

// sharing says that Main runs, which stops what is shared.
var sharing bool

// shared is a service that all tests of a binary use: started by the first one that asks, stopped by Main.
type shared struct {
	once    sync.Once
	address string
	stop    func() // nil when there is nothing to stop
	err     error
}

// get returns the address of the service: the one in the environment variable if set, else that of one that start
// starts. Where none can run the test ends.
func (l *shared) get(t testing.TB, variable string, start func() (address string, stop func(), err error)) string {
	t.Helper()
	if !sharing {
		t.Fatal("a package that shares services needs func TestMain(m *testing.M) { stack.Main(m) }")
	}
	l.once.Do(func() {
		if l.address = os.Getenv(variable); l.address == "" {
			l.address, l.stop, l.err = start()
		}
	})
	require(t, l.err)
	return l.address
}

func (l *shared) stopShared() {
	if l.stop != nil {
		l.stop()
	}
}
