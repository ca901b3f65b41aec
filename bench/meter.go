package main

import (
	"os"
	"time"
)

// usage is processor time.
type usage = time.Duration

// scope says which processes of a tree count.
type scope int

const (
	itself scope = iota // the process alone
	below               // its descendants
	both
)

// watched is a process whose processor time is measured.
type watched struct {
	name  string
	pid   int
	scope scope
}

// generator is this process, which makes the load on the same cores.
var generator = watched{name: "generator", pid: os.Getpid()}

// meter measures the processor time of processes from newMeter on.
type meter struct {
	of     []watched
	before map[string]usage
}

func newMeter(of []watched) (*meter, error) {
	m := &meter{of: append([]watched{generator}, of...)}
	var err error
	m.before, err = processorTimes(m.of)
	return m, err
}

// read returns the processor time of each process since newMeter, without children that have ended. It is empty on
// systems that do not report it.
func (m *meter) read() (map[string]usage, error) {
	used, err := processorTimes(m.of)
	for name := range used {
		used[name] -= m.before[name]
	}
	return used, err
}
