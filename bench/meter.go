package main

import (
	"os"
	"time"
)

// usage is processor time.
type usage = time.Duration

// scope says which processes of a tree are counted.
type scope int

const (
	itself scope = iota // the process alone
	below               // what it started, and what those did
	both
)

// watched is a process whose processor time is told apart.
type watched struct {
	name  string
	pid   int
	scope scope
}

// generator is this process: it makes the load on the same cores.
var generator = watched{name: "generator", pid: os.Getpid()}

// meter measures the processor time of processes from its making on.
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

// read returns what each was given since. What a child used that has ended by now is lost. On systems that don't tell, it
// is empty.
func (m *meter) read() (map[string]usage, error) {
	used, err := processorTimes(m.of)
	for name := range used {
		used[name] -= m.before[name]
	}
	return used, err
}
