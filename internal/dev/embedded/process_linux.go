package embedded

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// self is this program, for running it again. The link works even where the path doesn't for another user.
func self() (string, error) { return "/proc/self/exe", nil }

// dieWithParent has the kernel stop the child when the thread that started it ends, as it does with kill -9 of this
// process. The child gets SIGINT: PostgreSQL's fast shutdown.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGINT }

// commandLine returns what the process runs, empty when there is no such process.
func commandLine(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	return strings.ReplaceAll(string(text), "\x00", " ")
}
