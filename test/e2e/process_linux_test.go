package e2e

import "syscall"

// dieWithTest has the kernel kill the process when the test binary dies without cleaning up, as at its time limit.
func dieWithTest(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
