package loadtest

import "syscall"

// endWithUs has the kernel stop the child, which drains, when this process is gone, as it is after kill -9.
func endWithUs(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGTERM }
