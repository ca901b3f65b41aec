//go:build !linux

package embedded

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// self is this program, for running it again.
func self() (string, error) { return os.Executable() }

// dieWithParent does nothing: here the server outlives a killed parent, and the next Start stops it.
func dieWithParent(*syscall.SysProcAttr) {}

// commandLine returns what the process runs, empty when there is no such process.
func commandLine(pid int) string {
	text, err := exec.Command("ps", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return ""
	}
	return string(text)
}
