//go:build !unix

package server

// peerClosed can't be known here: a client that left keeps its slot until its wait is over.
func (c *conn) peerClosed() bool { return false }
