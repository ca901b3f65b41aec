//go:build unix

package server

import (
	"errors"
	"syscall"
)

// isGone says whether the client has closed the connection, without taking a byte from it. One that has sent more on the
// same connection, or has left without a word, is still there.
func (c *conn) peerClosed() bool {
	tcp, ok := c.Conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		var one [1]byte
		n, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK) // the descriptor does not block
		gone = n == 0 && err == nil || err != nil && !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EINTR)
	})
	return gone || err != nil
}
