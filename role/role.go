// Package role builds one role of the service from its settings, runs it and drains it. It is the one place that knows
// which adapter stands behind which seam; the command and the all-in-one process both come through here.
package role

import (
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"tradestore/server"
)

// Env is what a role takes from the process around it. Only Log is required.
type Env struct {
	Log      zerolog.Logger
	Registry *prometheus.Registry // of this role alone: roles register the same names; nil makes one
	Listener net.Listener         // closed by the role at its end; nil listens on the address in the settings
	Checks   []server.Check       // of the server: more that must be well before it is ready
	Now      func() time.Time     // nil is time.Now
}
