package proc

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
)

// ErrPortTaken is returned when somebody else listens on the port that was asked for.
var ErrPortTaken = errors.New("port is taken")

// Free ports lie below the range from which systems take ports for outgoing connections (32768 and up). A port of that
// range can be lost while its service is down: to any client, even to one that tries to connect to it.
const (
	firstPort = 20_000
	lastPort  = 32_000
	portTries = 1000
)

// given has the ports that FreePort returned, so that it returns none twice.
var given sync.Map // int -> true

// FreePort returns a port of 127.0.0.1 that nobody listens on. Another process may take it before the caller does.
func FreePort() (int, error) {
	for range portTries {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if _, before := given.LoadOrStore(port, true); !before && PortIsFree(port) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("cannot find a free port from %d to %d", firstPort, lastPort)
}

// ChoosePort returns the fixed port. When that is 0, it returns the port in the note file if that is free, or else any
// free port, which it notes for the next time. Errors: ErrPortTaken.
func ChoosePort(fixed int, note string) (int, error) {
	if fixed != 0 {
		if !PortIsFree(fixed) {
			return 0, fmt.Errorf("%w: %d", ErrPortTaken, fixed)
		}
		return fixed, nil
	}
	port := noted(note)
	if !PortIsFree(port) {
		var err error
		if port, err = FreePort(); err != nil {
			return 0, err
		}
	}
	if err := os.WriteFile(note, []byte(strconv.Itoa(port)+"\n"), 0o600); err != nil {
		return 0, fmt.Errorf("cannot note the port: %w", err)
	}
	return port, nil
}

// noted returns 0 when there is no note that can be read.
func noted(note string) int {
	text, err := os.ReadFile(note)
	if err != nil {
		return 0
	}
	port, _ := strconv.Atoi(strings.TrimSpace(string(text))) // 0 for nonsense
	return port
}

// PortIsFree says whether this process could listen on the port of 127.0.0.1. 0 is no port.
func PortIsFree(port int) bool {
	if port <= 0 {
		return false
	}
	ln, err := net.Listen("tcp", Loopback(port))
	if err != nil {
		return false
	}
	_ = ln.Close()
	return true
}

// Loopback is the address of a port of this machine, as host:port.
func Loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
