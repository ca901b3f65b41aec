package proc

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

func dieWithParent(attr *syscall.SysProcAttr, s syscall.Signal) { attr.Pdeathsig = s }

// Self is the path of this program, to run it again. The link works where another user cannot reach the path.
func Self() (string, error) { return "/proc/self/exe", nil }

// CommandLine returns what a process runs, with a space after each word; empty when there is no such process.
func CommandLine(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	return strings.ReplaceAll(string(text), "\x00", " ")
}
