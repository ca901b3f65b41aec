package app

import (
	"tradestore/server"
	"tradestore/worker"
)

// Stores replaces stores of a role, so that a benchmark can measure the role without them. The role then makes no
// checks of its stores. A nil function replaces nothing.
type Stores struct {
	Server func(*server.Deps) // called before the server is made
	Worker func(*worker.Deps) // called before the worker is made
}

func (s *Stores) ofServer(deps *server.Deps) {
	if s != nil && s.Server != nil {
		s.Server(deps)
	}
}

func (s *Stores) ofWorker(deps *worker.Deps) {
	if s != nil && s.Worker != nil {
		s.Worker(deps)
	}
}
