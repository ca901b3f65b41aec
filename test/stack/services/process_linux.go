package services

import "syscall"

// dieWithParent has the kernel kill the child when the thread that started it ends, as it does with a panic or kill -9
// of this process. A gentler signal would not reach a frozen child.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
