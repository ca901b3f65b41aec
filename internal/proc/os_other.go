//go:build !linux

package proc

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}

// Self is the path of this program, to run it again.
func Self() (string, error) { return os.Executable() }

// CommandLine returns what a process runs, with spaces between the words; empty when there is no such process.
func CommandLine(pid int) string {
	text, err := exec.Command("ps", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return ""
	}
	return string(text)
}
