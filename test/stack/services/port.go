package services

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
)

// ErrPortTaken says that somebody else listens on the port that was asked for.
var ErrPortTaken = errors.New("port is taken")

// Free ports are chosen below the range from which systems take ports for outgoing connections (32768 and up). A port
// from that range can be lost while its service is down: to any client, even to one that tries to connect to it.
const (
	firstPort = 20_000
	lastPort  = 32_000
	portTries = 200
)

// choosePort returns the fixed port, or, when it is 0, the one in the note file if that is free, or else any free one.
// It notes its choice for the next time.
func choosePort(fixed int, note string) (int, error) {
	port := fixed
	if port == 0 {
		port = noted(note)
	}
	for range portTries {
		if port != 0 && free(port) {
			if err := os.WriteFile(note, []byte(strconv.Itoa(port)+"\n"), 0o600); err != nil {
				return 0, fmt.Errorf("cannot note the port: %w", err)
			}
			return port, nil
		}
		if fixed != 0 {
			return 0, fmt.Errorf("%w: %d", ErrPortTaken, fixed)
		}
		port = firstPort + rand.IntN(lastPort-firstPort)
	}
	return 0, fmt.Errorf("cannot find a free port from %d to %d", firstPort, lastPort)
}

// noted returns 0 when there is no note that can be read.
func noted(note string) int {
	text, err := os.ReadFile(note)
	if err != nil {
		return 0
	}
	port, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || port < 0 || port > 65535 {
		return 0
	}
	return port
}

func free(port int) bool {
	ln, err := net.Listen("tcp", loopback(port))
	if err != nil {
		return false
	}
	ln.Close()
	return true
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
