//go:build unix

package server

import (
	"errors"
	"syscall"
)

// peerClosed says whether the client has closed the connection, without consuming a byte. A client that has sent more
// bytes, or that vanished without a FIN, counts as connected.
func (c *conn) peerClosed() bool {
	tcp, ok := c.Conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return true
	}
	closed := false
	err = raw.Control(func(fd uintptr) {
		var one [1]byte
		n, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK) // the descriptor does not block
		failed := err != nil && !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EINTR)
		closed = n == 0 && err == nil || failed
	})
	return closed || err != nil
}
