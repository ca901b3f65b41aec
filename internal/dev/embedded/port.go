package embedded

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

// ErrPortTaken says that somebody else listens on the port that was asked for.
var ErrPortTaken = errors.New("port is taken")

// choosePort returns the fixed port, or, when it is 0, the one in the note file if that is free, or else any free one,
// which it notes for the next time.
func choosePort(fixed int, note string) (int, error) {
	if fixed != 0 {
		if !free(fixed) {
			return 0, fmt.Errorf("%w: %d", ErrPortTaken, fixed)
		}
		return fixed, nil
	}
	if text, err := os.ReadFile(note); err == nil {
		if port, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && port > 0 && free(port) {
			return port, nil
		}
	}
	port, err := freePort()
	if err != nil {
		return 0, err
	}
	if err := os.WriteFile(note, []byte(strconv.Itoa(port)+"\n"), 0o600); err != nil {
		return 0, fmt.Errorf("cannot note the port: %w", err)
	}
	return port, nil
}

func free(port int) bool {
	ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	ln.Close()
	return true
}

// freePort returns a port that nobody listens on. Another process may take it before the caller does.
func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("cannot find a free port: %w", err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}
